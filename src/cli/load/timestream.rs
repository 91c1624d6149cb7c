//! The fleet's records as Timestream's `WriteRecords`: JSON as its SDKs write it, each record whole,
//! without common attributes. One value is a record of one measure, more are a record of several.

use std::fmt::{self, Write as _};

use super::{Body, CALL_DIGITS, FIELDS, LoadArgs, TAGS, Target, UNSTAMPED_NS, next_value, put_tag};
use crate::cli::Failure;
use crate::cli::client::{Client, Secret};
use crate::record::limits::RECORDS_PER_REQUEST_MAX;

const TABLE: &str = "cpu";

/// Makes the table and its database, unless they are there.
///
/// # Errors
///
/// [`Failure::Usage`] for more records a request than there may be, [`Failure::Failed`] when the server
/// makes no table.
pub(super) fn prepare(args: &LoadArgs, target: &Target) -> Result<(), Failure> {
    if args.batch as usize > RECORDS_PER_REQUEST_MAX {
        let wrong = format!("--batch {}: WriteRecords takes {RECORDS_PER_REQUEST_MAX}", args.batch);
        return Err(Failure::usage(wrong));
    }
    let mut client = Client::new(target.address.clone());
    let database = &args.database;
    for (operation, body) in [
        ("CreateDatabase", format!("{{\"DatabaseName\":\"{database}\"}}")),
        ("CreateTable", format!("{{\"DatabaseName\":\"{database}\",\"TableName\":\"{TABLE}\"}}")),
    ] {
        let head = head(operation, target);
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let reply = client
            .exchange(request.as_bytes())
            .map_err(|error| Failure::failed(format!("{}: {error}", target.address.url())))?;
        // 409: it is there.
        if !matches!(reply.status, 200 | 409) {
            let body = String::from_utf8_lossy(&reply.body);
            return Err(Failure::failed(format!("{operation}: {}: {body}", reply.status)));
        }
    }
    Ok(())
}

/// What a request begins with.
pub(super) fn head(operation: &str, target: &Target) -> String {
    let Target { address, authorization: Secret(authorization) } = target;
    format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: Timestream_20181101.{operation}\r\n{authorization}"
    )
}

/// A head that names each call, as SDKs do, so that the server keeps its answer for a repetition; and
/// where in it the number of the call stands.
pub(super) fn named_call(head: &str, (run, connection): (u64, u32)) -> (String, usize) {
    let named = format!("{head}amz-sdk-invocation-id: {run:x}-{connection}-");
    let at = named.len();
    (format!("{named}{:0CALL_DIGITS$}\r\n", 0), at)
}

/// A request with one record of each host.
pub(super) fn put_records(
    args: &LoadArgs,
    hosts: impl Iterator<Item = u32>,
    random: &mut u64,
) -> Result<Body, fmt::Error> {
    let (mut out, mut timestamps) = (String::new(), Vec::new());
    let database = &args.database;
    write!(out, "{{\"DatabaseName\":\"{database}\",\"TableName\":\"{TABLE}\",\"Records\":[")?;
    for (at, host) in hosts.enumerate() {
        out.push_str(if at == 0 { "{\"Dimensions\":[" } else { ",{\"Dimensions\":[" });
        for (n, tag) in TAGS.iter().take(usize::from(args.tags)).enumerate() {
            write!(out, "{}{{\"Name\":\"{tag}\",\"Value\":\"", if n == 0 { "" } else { "," })?;
            put_tag(&mut out, n, host)?;
            out.push_str("\"}");
        }
        out.push_str("],");
        put_measures(&mut out, &FIELDS[..usize::from(args.fields)], random)?;
        out.push_str(",\"Time\":\"");
        timestamps.push(out.len());
        write!(out, "{UNSTAMPED_NS}\",\"TimeUnit\":\"NANOSECONDS\"}}")?;
    }
    out.push_str("]}");
    Ok(Body { text: out, timestamps })
}

fn put_measures(out: &mut String, fields: &[&str], random: &mut u64) -> fmt::Result {
    if let [field] = fields {
        let value = next_value(random);
        return write!(
            out,
            "\"MeasureName\":\"{field}\",\"MeasureValue\":\"{value}\",\"MeasureValueType\":\"BIGINT\""
        );
    }
    out.push_str("\"MeasureName\":\"cpu\",\"MeasureValueType\":\"MULTI\",\"MeasureValues\":[");
    for (n, field) in fields.iter().enumerate() {
        let (comma, value) = (if n == 0 { "" } else { "," }, next_value(random));
        write!(out, "{comma}{{\"Name\":\"{field}\",\"Value\":\"{value}\",\"Type\":\"BIGINT\"}}")?;
    }
    out.push(']');
    Ok(())
}
