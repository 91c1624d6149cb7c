//! Amazon resource names of databases and tables:
//! `arn:aws:timestream:<region>:<account>:database/<database>[/table/<table>]`.

use super::exception::Exception;
use crate::engine::catalog::Resource;

/// The account that all resources are shown to belong to: here is one owner only.
pub const ACCOUNT: &str = "000000000000";

/// The region of clients that do not sign.
pub const REGION_DEFAULT: &str = "us-east-1";

/// Most bytes of a region's name that is shown again.
const REGION_BYTES_MAX: usize = 32;

/// The name of a database.
pub fn of_database(region: &str, database: &str) -> String {
    format!("arn:aws:timestream:{region}:{ACCOUNT}:database/{database}")
}

/// The name of a table.
pub fn of_table(region: &str, database: &str, table: &str) -> String {
    format!("{}/table/{table}", of_database(region, database))
}

/// The region in the credential of an `Authorization` header, where it looks like one.
pub fn region_of(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    let region = credential.split('/').nth(2)?;
    is_region(region).then_some(region)
}

/// Whether this may be the name of a region: letters, digits and dashes, up to 32.
pub fn is_region(name: &str) -> bool {
    (1..=REGION_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What a name names, of whatever partition, region and account.
///
/// # Errors
///
/// [`Exception`] 400 where it is no name of a database or table.
pub fn parse(text: &str) -> Result<Resource<'_>, Exception> {
    resource_of(text).ok_or_else(|| {
        Exception::invalid(format!(
            "The ResourceARN {text:?} is not the ARN of a database or table: \
             arn:aws:timestream:<region>:<account>:database/<database>[/table/<table>]"
        ))
    })
}

fn resource_of(text: &str) -> Option<Resource<'_>> {
    let mut parts = text.splitn(6, ':');
    let (arn, _partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (_region, _account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    if (arn, service) != ("arn", super::SERVICE) {
        return None;
    }
    let path = resource.strip_prefix("database/")?;
    match path.split_once("/table/") {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => {
            Some(Resource::Table { database, table })
        }
        None if !path.is_empty() => Some(Resource::Database(path)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_again_and_nothing_else_is() {
        let table = of_table("eu-west-1", "fleet", "cpu.1");
        assert_eq!(parse(&table), Ok(Resource::Table { database: "fleet", table: "cpu.1" }));
        assert_eq!(parse(&of_database("x", "fleet")), Ok(Resource::Database("fleet")));
        for text in [
            "",
            "fleet",
            "arn:aws:timestream:r:1:database/",
            "arn:aws:timestream:r:1:database/a/table/",
            "arn:aws:s3:r:1:database/a",
            "arn:aws:timestream:r:database/a",
            "arn:aws:timestream:r:1:scheduled-query/a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_region_is_the_one_that_was_signed_for() {
        let header =
            "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-1/timestream/aws4_request, ..";
        assert_eq!(region_of(header), Some("eu-west-1"));
        for odd in ["", "Bearer x", "Credential=a/b", "Credential=a/b/r\"x/c"] {
            assert_eq!(region_of(odd), None, "{odd}");
        }
    }
}
