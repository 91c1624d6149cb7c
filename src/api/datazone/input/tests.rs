//! Every constraint at, under and over its bound, where no SDK gets in the way.

use super::*;

fn entity() -> Entity {
    Entity { domain: "dzd_a".into(), entity_type: "ASSET".into(), id: "e".into() }
}

fn post(body: &str) -> Result<Post, Exception> {
    Post::read(entity(), &Bytes::from(body.to_owned()))
}

fn with(member: &str, value: &str) -> Result<Post, Exception> {
    let mut form = serde_json::json!({ "formName": "f", "typeIdentifier": "t", "timestamp": 1 });
    form[member] = serde_json::from_str(value).unwrap();
    post(&serde_json::json!({ "forms": [form] }).to_string())
}

fn text(chars: usize) -> String {
    format!("\"{}\"", "\u{e4}".repeat(chars))
}

#[test]
fn members_of_a_form_are_held_against_the_model_at_their_bounds() {
    let kind = |chars: usize| format!("\"{}\"", "t".repeat(chars));
    for (member, value, is_good) in [
        ("formName", text(1), true),
        ("formName", text(128), true),
        ("formName", text(0), false),
        ("formName", text(129), false),
        ("formName", "null".into(), false),
        ("formName", "5".into(), false),
        ("typeIdentifier", kind(1), true),
        ("typeIdentifier", kind(385), true),
        ("typeIdentifier", kind(0), false),
        ("typeIdentifier", kind(386), false),
        ("typeIdentifier", "\"a.b_C9\"".into(), true),
        ("typeIdentifier", "\".a\"".into(), false),
        ("typeIdentifier", "\"a.\"".into(), false),
        ("typeIdentifier", "\"a b\"".into(), false),
        ("typeIdentifier", "\"\u{e4}\"".into(), false),
        ("typeRevision", text(1), true),
        ("typeRevision", text(64), true),
        ("typeRevision", text(0), false),
        ("typeRevision", text(65), false),
        ("typeRevision", "null".into(), true),
        ("content", text(0), true),
        ("content", text(500_000), true),
        ("content", text(500_001), false),
        ("content", "null".into(), true),
        ("content", "{}".into(), false),
        ("timestamp", "1704164645.678901".into(), true),
        ("timestamp", "\"2024-01-02T03:04:05Z\"".into(), true),
        ("timestamp", "null".into(), false),
        ("timestamp", "1e12".into(), false),
        ("unknown", "{}".into(), true),
    ] {
        let shown: String = value.chars().take(20).collect();
        assert_eq!(with(member, &value).is_ok(), is_good, "{member} {shown}");
    }
    for body in ["", "[]", "{}", r#"{"forms":[]}"#, r#"{"forms":null}"#, r#"{"forms":[null]}"#, "{"]
    {
        assert!(post(body).is_err(), "{body}");
    }
}

/// What serde derives for a structure takes an array of its members in their order, too.
#[test]
fn an_array_is_no_structure() {
    let form = r#"{"formName":"f","typeIdentifier":"t","timestamp":1}"#;
    assert!(post(&format!(r#"{{"forms":[{form}]}}"#)).is_ok());
    for body in [
        format!("[[{form}]]"),
        format!(r#"[[{form}],"token"]"#),
        r#"{"forms":[["f","t",null,1,null]]}"#.to_owned(),
        format!(r#"{{"forms":{form}}}"#),
        format!(r#"{{"forms":[{form}]}} {{}}"#),
    ] {
        let message = post(&body).unwrap_err().message;
        assert!(message.starts_with("the body is not what is expected: "), "{body}: {message}");
    }
}

#[test]
fn forms_are_held_against_their_bound_and_no_more_are_kept() {
    let of = |count: usize| {
        let form = r#"{"formName":"f","typeIdentifier":"t","timestamp":1}"#;
        post(&format!(r#"{{"forms":[{}]}}"#, vec![form; count].join(",")))
    };
    assert_eq!(of(FORMS_MAX).unwrap().forms.len(), FORMS_MAX);
    let message = of(FORMS_MAX + 1).unwrap_err().message;
    assert!(message.contains("'[1001 forms]' at 'forms'"), "{message}");
    assert!(message.ends_with("Member must have length less than or equal to 1000"), "{message}");
    let message = of(0).unwrap_err().message;
    assert!(message.ends_with("Member must have length greater than or equal to 1"), "{message}");
}

#[test]
fn every_violation_is_told_with_its_path() {
    let error = post(r#"{"forms":[{"formName":"","typeIdentifier":"t"}],"clientToken":"a b"}"#);
    let message = error.unwrap_err().message;
    assert!(message.starts_with("3 validation errors detected: "), "{message}");
    for path in ["'clientToken'", "'forms.1.member.formName'", "'forms.1.member.timestamp'"] {
        assert!(message.contains(path), "{path} in {message}");
    }
}

#[test]
fn the_digest_is_of_the_parameters_and_nothing_else() {
    let form = r#"{"formName":"f","typeIdentifier":"t","timestamp":1,"content":"c"}"#;
    let digest = |body: &str| post(body).unwrap().digest();
    let one = digest(&format!(r#"{{"forms":[{form}],"clientToken":"a"}}"#));
    assert_eq!(one, digest(&format!(r#"{{"clientToken":"b","x":1,"forms":[{form}]}}"#)));
    assert_eq!(one, digest(&format!(r#"{{"forms":[{}]}}"#, form.replace(":1,", ":1.0,"))));
    for (from, to) in [("\"f\"", "\"g\""), ("\"t\"", "\"u\""), (":1,", ":2,"), ("\"c\"", "\"\"")] {
        assert_ne!(one, digest(&format!(r#"{{"forms":[{}]}}"#, form.replace(from, to))));
    }
    assert_ne!(one, digest(&format!(r#"{{"forms":[{form},{form}]}}"#)));
}

#[test]
fn query_strings_are_held_against_the_model_at_their_bounds() {
    let list = |query: &str| List::read(entity(), &Params::parse(query).unwrap());
    let long = format!("formName={}", "x".repeat(128));
    for (query, is_good) in [
        ("", false),
        ("formName=", false),
        ("formName=f", true),
        (&*long, true),
        (&*format!("{long}x"), false),
        ("formName=f&maxResults=1", true),
        ("formName=f&maxResults=50", true),
        ("formName=f&maxResults=0", false),
        ("formName=f&maxResults=51", false),
        ("formName=f&maxResults=x", false),
        ("formName=f&nextToken=", false),
        ("formName=f&nextToken=AAAA", false),
        (
            "formName=f&startedAt=2024-01-02T03%3A04%3A05.678901Z&endedAt=2024-01-03T00%3A00%3A00Z",
            true,
        ),
        ("formName=f&startedAt=2024-01-03T00%3A00%3A00Z&endedAt=2024-01-02T00%3A00%3A00Z", false),
        ("formName=f&startedAt=yesterday", false),
        ("formName=f&unknown=1", true),
    ] {
        assert_eq!(list(query).is_ok(), is_good, "{query}");
    }
    let delete = |query: &str| Delete::read(entity(), &Params::parse(query).unwrap()).is_ok();
    assert!(delete(&format!("formName=f&clientToken={}", "~".repeat(128))));
    assert!(!delete(&format!("formName=f&clientToken={}", "~".repeat(129))));
    for name in ["startedAt", "endedAt"] {
        let error = list(&format!("formName=f&{name}=2300-01-01T00%3A00%3A00Z")).unwrap_err();
        assert!(error.message.contains("from 1677-09-21"), "{}", error.message);
        assert!(error.message.contains("to 2262-04-11"), "{}", error.message);
    }
    assert!(!delete("formName=f&clientToken=") && !delete("formName=f&clientToken=%7F"));
}

#[test]
fn a_page_goes_on_in_its_own_list_only() {
    let list = |query: &str| List::read(entity(), &Params::parse(query).unwrap());
    let time = Time::of_seconds(5.0).unwrap();
    let id = point::id(time, 1, 2);
    let token = list("formName=f").unwrap().token(time.ns(), &id);
    let again = list(&format!("formName=f&maxResults=3&nextToken={token}")).unwrap();
    assert_eq!(again.after, Some((time.ns(), id)));
    assert!(list(&format!("formName=g&nextToken={token}")).is_err());
    assert!(list(&format!("formName=f&startedAt=1&nextToken={token}")).is_err());
}
