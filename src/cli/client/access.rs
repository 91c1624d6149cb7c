//! The flags of every command that talks to a server: who asks, and whom the server must be.

use std::fmt;
use std::path::PathBuf;

use clap::Args;

use super::tls::Trust;
use crate::cli::Failure;

/// The environment variable that clients of `InfluxDB` keep their token in.
const TOKEN_VARIABLE: &str = "INFLUX_TOKEN";

/// Who asks, and whom the server must be.
#[derive(Debug, Clone, Default, Args)]
pub struct Access {
    /// A file that holds the token and nothing else. Without it and --token: the variable `INFLUX_TOKEN`.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself; other users of the machine can see it in the list of processes.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
    /// Whom the server must be.
    #[command(flatten)]
    pub trust: Trust,
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Access {
    /// The header that says who asks, with its end of line; empty where nobody is named.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the file cannot be read, or the token has characters that none has.
    pub fn header(&self) -> Result<Secret, Failure> {
        let token = self.token()?;
        Ok(Secret(
            token
                .map_or(String::new(), |Secret(token)| format!("Authorization: Token {token}\r\n")),
        ))
    }

    /// The token, wherever it is.
    fn token(&self) -> Result<Option<Secret>, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::usage(format!("--token-file {}: {error}", file.display()))
                })?;
                let text = text.trim();
                if text.is_empty() {
                    let file = file.display();
                    return Err(Failure::usage(format!("--token-file {file}: it is empty")));
                }
                Some(Secret(text.to_owned()))
            }
            (None, None) => std::env::var(TOKEN_VARIABLE).ok().map(Secret),
        };
        let token = token.filter(|token| !token.0.is_empty());
        match &token {
            // It goes into a line of the head, which it must not end.
            Some(Secret(text)) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(Failure::usage("the token holds characters that no token has"))
            }
            _ => Ok(token),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(token: &str) -> Access {
        Access { token: Some(Secret(token.to_owned())), ..Access::default() }
    }

    #[test]
    fn no_token_is_ever_shown_and_none_breaks_the_head() {
        assert!(!format!("{:?}", of("s3cret")).contains("s3cret"));
        assert_eq!(of("s3cret").header().unwrap().0, "Authorization: Token s3cret\r\n");
        for wrong in ["s3cret\r\nX: y", "s3cret two", "s3crét"] {
            let Err(Failure::Usage(error)) = of(wrong).header() else { panic!("taken") };
            assert!(!error.to_string().contains("s3cr"), "{error}");
        }
    }

    #[test]
    fn a_file_of_a_token_that_is_missing_or_empty_is_no_way_to_be_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let access = Access { token_file: Some(file.clone()), ..Access::default() };
        for text in [None, Some(""), Some(" \n")] {
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let Err(Failure::Usage(error)) = access.header() else { panic!("{text:?} was taken") };
            assert!(error.to_string().starts_with("--token-file "), "{error}");
        }
        std::fs::write(&file, "t\n").unwrap();
        assert_eq!(access.header().unwrap().0, "Authorization: Token t\r\n");
    }
}
