//! Published examples, and what must not pass.

use hyper::Request;

use super::*;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// 2015-08-30T12:36:00Z, ns.
const NOW_NS: i64 = 1_440_938_160_000_000_000;

/// A request, its body, and the service that it is for.
struct Case {
    method: &'static str,
    uri: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    service: &'static str,
}

/// AWS documentation, "Signature Version 4 signing process", the request to IAM.
fn list_users() -> Case {
    Case {
        method: "GET",
        uri: "/?Action=ListUsers&Version=2010-05-08",
        headers: vec![
            ("host", "iam.amazonaws.com".into()),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8".into()),
            ("x-amz-date", "20150830T123600Z".into()),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
                    .into(),
            ),
        ],
        body: Vec::new(),
        service: "iam",
    }
}

/// AWS Signature Version 4 test suite, `get-vanilla` and `get-vanilla-query-order-key-case`.
fn suite(uri: &'static str, signature: &str) -> Case {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders=host;x-amz-date, Signature={signature}"
    );
    Case {
        method: "GET",
        uri,
        headers: vec![
            ("host", "example.amazonaws.com".into()),
            ("x-amz-date", "20150830T123600Z".into()),
            ("authorization", authorization),
        ],
        body: Vec::new(),
        service: "service",
    }
}

impl Case {
    fn verify_at(&self, now_ns: i64) -> Result<(), Exception> {
        let mut request = Request::builder().method(self.method).uri(self.uri);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_str());
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let claim = Claim::of(&head.headers)?.expect("it is signed");
        let expected = Expected { secret: SECRET, service: self.service, region: "", now_ns };
        claim.verify(&head, &Sha256::digest(&self.body).into(), &expected)
    }

    fn verify(&self) -> Result<(), Exception> {
        self.verify_at(NOW_NS)
    }

    fn replace(mut self, name: &str, from: &str, to: &str) -> Self {
        for (found, value) in &mut self.headers {
            if *found == name {
                assert!(value.contains(from), "{name} has no {from}");
                *value = value.replace(from, to);
            }
        }
        self
    }

    /// Signs it with our own code, for cases that nobody has published.
    fn signed(mut self) -> Self {
        let mut request = Request::builder().method(self.method).uri(self.uri);
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_str());
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let claim = Claim::of(&head.headers).unwrap().unwrap();
        let hashed = payload_hash(&head.headers, &Sha256::digest(&self.body).into()).unwrap();
        let canonical = claim.canonical_request(&head, &hashed);
        let signature = hex(&claim.sign(&canonical, "20150830T123600Z", SECRET));
        let last = self.headers.iter_mut().find(|(name, _)| *name == "authorization").unwrap();
        last.1 = last.1.replace(&claim.signature, &signature);
        self
    }
}

#[test]
fn the_published_examples_verify() {
    assert_eq!(list_users().verify(), Ok(()));
    let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    assert_eq!(suite("/", vanilla).verify(), Ok(()));
    let ordered = "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500";
    assert_eq!(suite("/?Param2=value2&Param1=value1", ordered).verify(), Ok(()));
}

#[test]
fn whatever_is_changed_after_signing_is_found() {
    let code = |case: Case| case.verify().unwrap_err().code;
    let signature = |to| list_users().replace("authorization", "5d672d79", to);
    for case in [
        signature("5d672d78"),
        signature("5D672D79"),
        signature(""),
        list_users().replace("authorization", "us-east-1", "eu-west-1"),
        list_users().replace("host", "iam", "sts"),
        list_users().replace("content-type", "utf-8", "utf-16"),
        list_users().replace("x-amz-date", "123600", "123601"),
        list_users().replace("authorization", "content-type;host", "host"),
        list_users().replace("authorization", "SignedHeaders=", "SignedHeaders=x-absent;"),
        Case { body: b"changed".to_vec(), ..list_users() },
        Case { uri: "/?Action=DeleteUser&Version=2010-05-08", ..list_users() },
        Case { uri: "/x?Action=ListUsers&Version=2010-05-08", ..list_users() },
        Case { method: "POST", ..list_users() },
    ] {
        assert_eq!(code(case), Code::InvalidSignature);
    }
}

#[test]
fn a_signature_holds_five_minutes_each_way_on_its_own_day_and_for_its_own_service() {
    let minutes = |minutes: i64| NOW_NS + minutes * 60_000_000_000;
    assert_eq!(list_users().verify_at(minutes(5)), Ok(()));
    assert_eq!(list_users().verify_at(minutes(-5)), Ok(()));
    let expired = list_users().verify_at(minutes(5) + 1_000_000_000).unwrap_err();
    assert_eq!(
        expired.message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z \
         (20150830T124101Z - 5 min.)"
    );
    let early = list_users().verify_at(minutes(-5) - 1_000_000_000).unwrap_err();
    assert!(early.message.starts_with("Signature not yet current: 20150830T123600Z"));
    for case in [
        list_users().replace("authorization", "20150830", "20150829").signed(),
        list_users().replace("authorization", "/iam/", "/timestream/").signed(),
    ] {
        let refused = case.verify().unwrap_err();
        assert_eq!(refused.code, Code::InvalidSignature);
        assert!(refused.message.contains("scope"), "{}", refused.message);
    }
}

#[test]
fn what_changes_a_requests_meaning_must_be_signed() {
    let with = |name: &'static str, value: &str| {
        let mut case = list_users();
        case.headers.push((name, value.to_owned()));
        case
    };
    for name in ["x-amz-target", "x-amz-security-token"] {
        let refused = with(name, "x").verify().unwrap_err();
        assert!(refused.message.starts_with(&format!("'{name}' must be a 'SignedHeader'")));
        let names = format!("host;x-amz-date;{name}");
        let signed = with(name, " x   y ").replace("authorization", "host;x-amz-date", &names);
        assert_eq!(signed.signed().verify(), Ok(()));
    }
    let unsigned = list_users().replace("authorization", "content-type;host;x-amz-date", "host");
    assert!(unsigned.verify().unwrap_err().message.starts_with("'x-amz-date' must be"));
}

#[test]
fn a_told_digest_is_compared_with_the_body() {
    let told = |digest: &str| {
        let mut case = list_users();
        case.headers.push(("x-amz-content-sha256", digest.to_owned()));
        case.replace("authorization", "host;x-amz-date", "host;x-amz-content-sha256;x-amz-date")
    };
    let empty = hex(&Sha256::digest(b"").into());
    assert_eq!(told(&empty).signed().verify(), Ok(()));
    for wrong in ["UNSIGNED-PAYLOAD", "", &hex(&Sha256::digest(b"x").into())] {
        assert_eq!(told(wrong).verify().unwrap_err().code, Code::InvalidSignature);
    }
}

#[test]
fn paths_are_encoded_once_more_and_queries_are_put_in_order() {
    let mut text = String::new();
    encode(b"/v2/domains/dzd_a%20b/\xc3\xa4~", IsPath(true), &mut text);
    assert_eq!(text, "/v2/domains/dzd_a%2520b/%C3%A4~");
    for (query, canonical) in [
        ("", ""),
        ("b=2&a=%7e%20x&a=1&c", "a=1&a=~%20x&b=2&c="),
        ("a=%2", "a=%252"),
        ("a+b", "a%2Bb="),
    ] {
        let mut text = String::new();
        canonical_query(query, &mut text);
        assert_eq!(text, canonical, "{query}");
    }
}

#[test]
fn a_header_without_its_parts_is_incomplete_and_another_scheme_is_not_ours() {
    for from in ["Credential=", "SignedHeaders=", "Signature=", "/aws4_request"] {
        let case = list_users().replace("authorization", from, "x");
        let refused = case.verify().unwrap_err();
        assert_eq!(refused.code, Code::IncompleteSignature, "{from}");
    }
    let undated = list_users().replace("x-amz-date", "20150830T123600Z", "yesterday");
    assert_eq!(undated.verify().unwrap_err().code, Code::IncompleteSignature);
    let mut headers = HeaderMap::new();
    assert_eq!(Claim::of(&headers), Ok(None));
    headers.insert(AUTHORIZATION, "Bearer x".parse().unwrap());
    assert_eq!(Claim::of(&headers), Ok(None));
}
