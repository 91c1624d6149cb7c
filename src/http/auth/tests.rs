//! Who is let in, and who is not.

use hyper::header::HeaderValue;

use super::*;

fn options() -> Options {
    toml::from_str(
        r#"
        [[tokens]]
        name = "agent"
        token = "s3cret"
        write = ["fleet"]

        [[users]]
        name = "ann"
        password = "pa:ss"
        read = ["*"]
        "#,
    )
    .unwrap()
}

fn identify(options: &Options, header: Option<&str>, query: &str) -> Result<String, Fault> {
    let mut headers = HeaderMap::new();
    if let Some(header) = header {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
    }
    let params = Params::parse(query).unwrap();
    let keyring = Keyring::load(options).unwrap();
    keyring.identify(&headers, &params, Family::V1).map(|caller| caller.name.clone())
}

fn basic(text: &str) -> String {
    format!("basic {}", BASE64.encode(text))
}

#[test]
fn every_way_of_showing_a_token_or_password_is_known() {
    for (header, query, name) in [
        (Some("Token s3cret".to_owned()), "", "agent"),
        (Some("bearer s3cret".to_owned()), "", "agent"),
        (Some(basic("anybody:s3cret")), "", "agent"),
        (Some(basic("ann:pa:ss")), "", "ann"),
        (Some("Token ann:pa:ss".to_owned()), "", "ann"),
        (None, "u=ann&p=pa:ss", "ann"),
        (None, "p=s3cret", "agent"),
        (Some("Token wrong".to_owned()), "u=ann&p=pa%3Ass", "ann"),
    ] {
        let found = identify(&options(), header.as_deref(), query);
        assert_eq!(found.as_deref(), Ok(name), "{header:?} {query}");
    }
}

#[test]
fn everybody_else_is_401() {
    for header in [
        "Token",
        "Token ",
        "Token wrong",
        "Token s3cretx",
        "Token s3cre",
        "Bearer",
        "Basic !",
        "Basic YQ==",
        "Digest s3cret",
        "s3cret",
        "Token ann:s",
        "Token bob:pa:ss",
    ] {
        let fault = identify(&options(), Some(header), "").unwrap_err();
        assert_eq!(fault.status(), 401, "{header}");
    }
    assert!(identify(&options(), Some("Token s3cret"), "u=ann&p=wrong").is_err());
    let fault = identify(&options(), None, "").unwrap_err();
    assert_eq!(fault.message, "unable to parse authentication credentials");
    let fault = identify(&options(), None, "u=ann&p=x").unwrap_err();
    assert_eq!(fault.message, "authorization failed");
}

#[test]
fn anonymous_lets_in_who_shows_nothing_and_not_who_shows_something_wrong() {
    let options = Options { anonymous: true, ..options() };
    assert_eq!(identify(&options, None, "").as_deref(), Ok("anonymous"));
    assert!(identify(&options, Some("Token wrong"), "").is_err());
    let nobody = Options::default();
    assert_eq!(identify(&nobody, Some("Token anything"), "").as_deref(), Ok("anonymous"));
}

#[test]
fn scopes_are_the_settings() {
    let keyring = Keyring::load(&options()).unwrap();
    let (_, agent) = &keyring.tokens[0];
    assert!(
        agent.write.covers("fleet") && !agent.write.covers("other") && !agent.read.covers("fleet")
    );
    let (_, ann) = &keyring.users[0];
    assert!(ann.read.covers("anything") && !ann.write.covers("anything"));
}

#[test]
fn only_loopback_may_be_served_without_knowing_anybody() {
    let nobody = Options::default();
    for (listen, needs) in [
        ("127.0.0.1:8086", false),
        ("[::1]:8086", false),
        ("[::ffff:127.0.0.1]:8086", false),
        ("0.0.0.0:8086", true),
        ("[::]:8086", true),
        ("192.168.1.1:8086", true),
    ] {
        let listen = listen.parse().unwrap();
        assert_eq!(requires_auth(listen), needs, "{listen}");
        assert_eq!(nobody.is_sufficient_for(listen), !needs, "{listen}");
        assert!(options().is_sufficient_for(listen));
        assert!(Options { anonymous: true, ..Options::default() }.is_sufficient_for(listen));
    }
}

#[test]
fn secrets_come_from_files_and_are_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "from-file\n").unwrap();
    let token = Token { name: "f".into(), token_file: Some(path.clone()), ..Token::default() };
    let mut options = options();
    options.tokens.push(token);
    assert_eq!(identify(&options, Some("Token from-file"), "").as_deref(), Ok("f"));
    let printed = format!(
        "{options:?} {:?} {}",
        Keyring::load(&options).unwrap(),
        serde_json::to_string(&options).unwrap()
    );
    for secret in ["s3cret", "pa:ss", "from-file"] {
        assert!(!printed.contains(secret), "{printed}");
    }
    std::fs::write(&path, " \n").unwrap();
    assert!(matches!(Keyring::load(&options), Err(AuthError::Empty { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(Keyring::load(&options), Err(AuthError::File { .. })));
    options.tokens[1].token = Some(Secret::new("two".into()));
    assert!(matches!(Keyring::load(&options), Err(AuthError::NotOne { .. })));
}

fn with_keys(more: &str) -> Options {
    let key = "[[access_keys]]\nid = \"AKID\"\nsecret = \"s3cret\"\nwrite = [\"fleet\"]\n";
    toml::from_str(&format!("{more}\n{key}")).unwrap()
}

/// Who a request with this `Authorization` would be, or the error.
fn claimed(options: &Options, header: Option<&str>) -> Result<String, Code> {
    let mut headers = HeaderMap::new();
    if let Some(header) = header {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(header).unwrap());
    }
    let claim = Keyring::load(options).unwrap().claim(&headers, &Params::default());
    claim.map_err(|exception| exception.code).map(|proof| match proof {
        Proof::Known(caller) => caller.name.clone(),
        Proof::Signed { caller, .. } => format!("{}, if the signature is right", caller.name),
    })
}

const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKID/20260101/r/timestream/aws4_request, \
                      SignedHeaders=host, Signature=0";

#[test]
fn a_signature_is_claimed_for_a_known_key_only_and_any_will_do_where_nobody_is_named() {
    let nobody = Options::default();
    assert_eq!(claimed(&nobody, Some(SIGNED)).as_deref(), Ok("anonymous"));
    assert_eq!(claimed(&nobody, None).as_deref(), Ok("anonymous"));
    let keys = with_keys("");
    assert_eq!(claimed(&keys, Some(SIGNED)).as_deref(), Ok("AKID, if the signature is right"));
    let other = SIGNED.replace("AKID", "OTHER");
    assert_eq!(claimed(&keys, Some(&other)), Err(Code::UnrecognizedClient));
    assert_eq!(claimed(&keys, None), Err(Code::MissingAuthenticationToken));
    // Whoever shows a key means it, also where nobody needs one.
    let open = with_keys("anonymous = true");
    assert_eq!(claimed(&open, Some(&other)), Err(Code::UnrecognizedClient));
    assert_eq!(claimed(&open, None).as_deref(), Ok("anonymous"));
    // Tokens and users are somebody: a signature by an unknown key is not them.
    assert_eq!(claimed(&options(), Some(SIGNED)), Err(Code::UnrecognizedClient));
    assert_eq!(claimed(&options(), Some("Bearer s3cret")).as_deref(), Ok("agent"));
}

#[test]
fn an_access_key_is_somebody_so_others_are_kept_out_and_its_secret_is_never_shown() {
    let keys = with_keys("");
    assert!(keys.is_sufficient_for("0.0.0.0:80".parse().unwrap()));
    assert_eq!(identify(&keys, None, "").unwrap_err().status(), 401);
    assert!(!format!("{keys:?}{}", toml::to_string(&keys).unwrap()).contains("s3cret"));
    for wrong in [
        "[[access_keys]]\nid = \"AKID\"\nsecret = \"other\"",
        "[[access_keys]]\nid = \"\"\nsecret = \"other\"",
        "[[access_keys]]\nid = \"NEW\"",
        "[[access_keys]]\nid = \"NEW\"\nsecret = \"\"",
    ] {
        assert!(Keyring::load(&with_keys(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn a_region_that_is_none_is_refused_at_the_start() {
    let with = |region: &str| Options { region: region.to_owned(), ..Options::default() };
    for good in ["", "eu-west-1", "us-gov-east-1"] {
        assert!(Keyring::load(&with(good)).is_ok(), "{good}");
    }
    for wrong in [" ", "eu west", "eu-west-1/timestream", &"x".repeat(33)] {
        let refused = Keyring::load(&with(wrong));
        assert!(matches!(refused, Err(AuthError::Region { .. })), "{wrong}");
    }
}
