//! `POST /api/v1/write`: JSON, NDJSON or line protocol by `Content-Type`, answered with a receipt.

use super::call::Call;
use super::fault::{Family, Fault, Kind};
use super::keyed::key_asked;
use super::write::{Form, Plan, check_may_write, durability_asked, partial_asked};
use crate::protocol::{json, line};

/// What may be asked of it.
const PARAMETERS: [&str; 4] = ["db", "table", "precision", "accept_partial"];

/// Plans `POST /api/v1/write?db=&table=&precision=&accept_partial=`.
///
/// `precision` is that of `/write` for line protocol (default ns), else ns, us, ms or s (default ms).
///
/// `table` is that of JSON records which name none; with line protocol, whose lines all do, it is an error.
///
/// # Errors
///
/// [`Fault`] when a parameter is missing, unknown or wrong, the content type is none of ours, or the caller
/// may not write there.
pub fn plan(call: &Call<'_>) -> Result<Plan, Fault> {
    call.params.only(&PARAMETERS)?;
    let form = form(call)?;
    let database = call.params.text("db").to_owned();
    if database.is_empty() && matches!(form, Form::Line(_)) {
        return Err(Fault::invalid("database is required: /api/v1/write?db=NAME"));
    }
    let table = call.params.get("table").filter(|table| !table.is_empty()).map(str::to_owned);
    if table.is_some() && matches!(form, Form::Line(_)) {
        return Err(Fault::invalid(
            "the parameter table is for JSON: in line protocol each line names its table, its \
             measurement; leave the parameter out",
        ));
    }
    // Without one, each record names its own and is checked on its way in.
    if !database.is_empty() {
        check_may_write(&call.caller, &database, Family::Native)?;
    }
    Ok(Plan {
        family: Family::Native,
        database,
        table,
        form,
        durability: durability_asked(call)?,
        partial: partial_asked(call)?,
        key: key_asked(call)?,
    })
}

fn form(call: &Call<'_>) -> Result<Form, Fault> {
    let precision = call.params.text("precision");
    let content_type = call.header("content-type").unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type.to_ascii_lowercase().as_str() {
        "text/plain" => line::Precision::from_v1(precision)
            .map(Form::Line)
            .map_err(|error| Fault::invalid(error.to_string())),
        "application/json" => json_form(json::Form::Document, precision),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            json_form(json::Form::Lines, precision)
        }
        // Not guessed from the first byte: a measurement may begin with a brace.
        _ => Err(Fault::new(
            Kind::MediaType,
            format!(
                "Content-Type {content_type:?} is not taken here: send application/json, \
                 application/x-ndjson, or text/plain for line protocol"
            ),
        )),
    }
}

fn json_form(form: json::Form, precision: &str) -> Result<Form, Fault> {
    let precision = match precision {
        "" => json::Precision::default(),
        name => name.parse().map_err(|_unknown: json::UnknownPrecision| {
            Fault::invalid(format!("invalid precision {name:?} (use ns, us, ms or s)"))
        })?,
    };
    Ok(Form::Json(form, precision))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::call::Caller;
    use crate::api::params::Params;

    fn plan_of(query: &str, content_type: Option<&str>) -> Result<Plan, Fault> {
        let mut headers = hyper::HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert("content-type", content_type.parse().unwrap());
        }
        plan(&Call {
            params: Params::parse(query).unwrap(),
            headers: &headers,
            caller: Arc::new(Caller::anonymous()),
        })
    }

    #[test]
    fn the_content_type_says_what_the_body_is() {
        for (content_type, form) in [
            ("application/json", Form::Json(json::Form::Document, json::Precision::Ms)),
            (
                "Application/JSON; charset=utf-8",
                Form::Json(json::Form::Document, json::Precision::Ms),
            ),
            ("application/x-ndjson", Form::Json(json::Form::Lines, json::Precision::Ms)),
            ("text/plain; charset=utf-8", Form::Line(line::Precision::Nanoseconds)),
        ] {
            assert_eq!(plan_of("db=a", Some(content_type)).unwrap().form, form, "{content_type}");
        }
        for content_type in [None, Some("application/x-www-form-urlencoded"), Some("text/csv")] {
            let fault = plan_of("db=a", content_type).unwrap_err();
            assert_eq!(fault.status(), 415);
            assert!(fault.message.contains("application/json"));
        }
    }

    #[test]
    fn json_may_name_its_databases_itself_and_line_protocol_cannot() {
        assert_eq!(plan_of("table=t", Some("application/json")).unwrap().database, "");
        assert_eq!(plan_of("", Some("text/plain")).unwrap_err().status(), 400);
    }

    #[test]
    fn a_table_is_for_json_and_never_passed_over() {
        let of_json = plan_of("db=a&table=t", Some("application/json")).unwrap();
        assert_eq!(of_json.table.as_deref(), Some("t"));
        let fault = plan_of("db=a&table=t", Some("text/plain")).unwrap_err();
        assert_eq!(fault.status(), 400);
        assert!(fault.message.contains("each line names its table"), "{}", fault.message);
        assert!(plan_of("db=a&table=", Some("text/plain")).is_ok());
    }

    #[test]
    fn each_form_has_its_own_precisions() {
        assert!(plan_of("db=a&precision=h", Some("text/plain")).is_ok());
        let fault = plan_of("db=a&precision=h", Some("application/json")).unwrap_err();
        assert_eq!(fault.message, "invalid precision \"h\" (use ns, us, ms or s)");
    }
}
