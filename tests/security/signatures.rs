//! Signatures of Amazon's kind: what was signed is what is done, now, here.

use super::common::gateway::Place;
use super::common::tell;
use super::scopes::SETTINGS;
use super::wire::Signed;

fn list() -> Signed {
    Signed { key: "AKIDALL".to_owned(), ..Signed::call("ListDatabases", "{}") }
}

type Change = fn(&mut Vec<(String, String)>, &mut String);

fn replaced(headers: &mut [(String, String)], name: &str, from: &str, to: &str) {
    for (found, value) in headers.iter_mut().filter(|(found, _)| found == name) {
        assert!(value.contains(from), "{found}: {value}");
        *value = value.replace(from, to);
    }
}

#[test]
fn whatever_is_changed_after_the_signature_is_refused() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    assert_eq!(list().send(server.address), 200);
    let cases: [(&str, Change); 19] = [
        ("body", |_, body| *body = r#"{"MaxResults":1}"#.to_owned()),
        ("a blank in the body", |_, body| body.push(' ')),
        ("no body", |_, body| body.clear()),
        ("operation", |headers, _| {
            replaced(headers, "X-Amz-Target", "ListDatabases", "DeleteDatabase");
        }),
        ("host", |headers, _| replaced(headers, "Host", "t", "u")),
        ("time", |headers, _| {
            let time = &mut headers[1].1;
            let last = if time.ends_with("0Z") { "1Z" } else { "0Z" };
            time.truncate(time.len() - 2);
            time.push_str(last);
        }),
        ("no time", |headers, _| drop(headers.remove(1))),
        ("key", |headers, _| replaced(headers, "Authorization", "AKIDALL", "AKIDFLEEt")),
        ("region", |headers, _| replaced(headers, "Authorization", "eu-west-1", "eu-west-2")),
        ("service", |headers, _| replaced(headers, "Authorization", "/timestream/", "/datazone/")),
        ("terminator", |headers, _| {
            replaced(headers, "Authorization", "aws4_request", "aws5_request");
        }),
        ("a header less", |headers, _| replaced(headers, "Authorization", ";x-amz-target", "")),
        ("no host signed", |headers, _| replaced(headers, "Authorization", "host;", "")),
        ("nothing signed", |headers, _| {
            replaced(headers, "Authorization", "host;x-amz-date;x-amz-target", "");
        }),
        ("a second operation", |headers, _| {
            headers
                .push(("X-Amz-Target".to_owned(), "Timestream_20181101.DeleteDatabase".to_owned()));
        }),
        ("a second signature", |headers, _| {
            let mut second = headers[3].clone();
            second.1 = second.1.replace("AKIDALL", "AKIDFLEET");
            headers.insert(3, second);
        }),
        ("a token that is not signed", |headers, _| {
            headers.push(("X-Amz-Security-Token".to_owned(), "a".to_owned()));
        }),
        ("a digest that is not signed", |headers, _| {
            headers.push(("X-Amz-Content-Sha256".to_owned(), "UNSIGNED-PAYLOAD".to_owned()));
        }),
        ("the algorithm", |headers, _| {
            replaced(headers, "Authorization", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1");
        }),
    ];
    for (what, change) in cases {
        let (status, answer) = list().send_changed(server.address, change);
        assert!(matches!(status, 400 | 403), "{what}: {answer}");
        assert!(!answer.contains("signing-secret"), "{what}");
    }
    server.stop();
}

#[test]
fn no_digit_of_a_signature_can_be_changed_left_out_or_added() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let mut tried = 0;
    for at in 0..64 {
        let (status, answer) = list().send_changed(server.address, |headers, _| {
            let value = &mut headers[3].1;
            let place = value.len() - 64 + at;
            let digit = if &value[place..=place] == "0" { "1" } else { "0" };
            value.replace_range(place..=place, digit);
        });
        assert_eq!(status, 403, "digit {at}: {answer}");
        tried += 1;
    }
    for (what, change) in [
        ("shorter", (|value| value.truncate(value.len() - 1)) as fn(&mut String)),
        ("longer", |value| value.push('0')),
        ("empty", |value| value.truncate(value.len() - 64)),
        ("in capitals", |value| {
            let signature = value.split_off(value.len() - 64).to_uppercase();
            value.push_str(&signature);
        }),
        ("noughts", |value| {
            value.truncate(value.len() - 64);
            value.push_str(&"0".repeat(64));
        }),
    ] {
        let (status, answer) =
            list().send_changed(server.address, |headers, _| change(&mut headers[3].1));
        assert!(matches!(status, 400 | 403), "{what}: {answer}");
        tried += 1;
    }
    tell(format!("signatures: {tried} that are not right, all refused"));
    server.stop();
}

#[test]
fn a_signature_holds_for_five_minutes_around_its_time() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    for (skew_seconds, expected) in [
        (0, 200),
        (-270, 200),
        (270, 200),
        (-330, 403),
        (330, 403),
        (-86_400, 403),
        (86_400, 403),
        (-1_000_000_000, 403),
        (8_000_000_000, 403),
    ] {
        let call = Signed { skew_seconds, ..list() };
        assert_eq!(call.send(server.address), expected, "{skew_seconds} s");
    }
    for (secret, service, expected) in [
        ("signing-secret", "timestream", 200),
        ("signing-secre", "timestream", 403),
        ("", "timestream", 403),
        ("signing-secret", "datazone", 403),
        ("signing-secret", "", 403),
    ] {
        let call = Signed { secret: secret.to_owned(), service: service.to_owned(), ..list() };
        assert_eq!(call.send(server.address), expected, "{secret:?} {service:?}");
    }
    server.stop();
}
