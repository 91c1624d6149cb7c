//! `tidegate batch-load`: CSV files into a table.
//!
//! Without `--url` it opens the data folder itself, as `export` does: the way for a first filling, with no
//! server and no port; a folder that a server has open is refused by its lock. With `--url` it asks a
//! running server, which reads the source from its own buckets, so that nothing is sent twice over the
//! network, and the load goes on when this command ends. A table that is missing is made either way.
//!
//! In a data folder the task is the folder's: where the command was killed, the same command goes on, and
//! so does a server that is started instead.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Access, Address, Client, Secret};
use super::export::opened;
use super::progress::Progress;
use super::{Failure, SettingsArgs, out, serve};
use crate::base::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::engine::catalog::TableSettings;
use crate::load::Loads;
use crate::load::task::{Location, ModelSource, Spec, Status, Task};
use crate::protocol::csv::model::{CsvConfiguration, DataModel};
use crate::protocol::timestream::coral::Violations;
use crate::server::{Interrupts, Purpose};

/// Examples for `--help`.
pub const EXAMPLES: &str = "Examples:
  tidegate batch-load --source history/2026.csv --model model.json --database iot --table weather
  tidegate batch-load --source s3://archive/weather/ --model model.json --database iot --table weather
  tidegate batch-load --url http://127.0.0.1:8086 --source archive/weather/ --model model.json \\
      --database iot --table weather

A source is a file, a directory, or s3://, gs://, az:// with bucket and key; at its end a / or * takes all
that begin with it. The model is Timestream's DataModel as JSON. Files may be compressed by gzip. Exit code
1 when anything was not taken. With --url the source is BUCKET/KEY in the server's batch_load.url, never a
path, and takes all whose keys begin with KEY. A database or table that is missing is made.";

/// Flags of `batch-load`.
#[derive(Debug, Args)]
pub struct BatchLoadArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The files; with --url BUCKET/KEY of the server's `batch_load.url`.
    #[arg(long, value_name = "URL")]
    source: String,
    /// The data model, JSON.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The database.
    #[arg(long, value_name = "D")]
    database: String,
    /// The table.
    #[arg(long, value_name = "T")]
    table: String,
    /// The version of all records: the same again changes nothing, a higher one updates.
    #[arg(long, value_name = "N", default_value_t = 1)]
    record_version: i64,
    /// Between fields: , | ; a tab or a space.
    #[arg(long, value_name = "CHAR")]
    separator: Option<String>,
    /// Around fields: " or '.
    #[arg(long, value_name = "CHAR")]
    quote: Option<String>,
    /// Before a quote that is text.
    #[arg(long, value_name = "CHAR")]
    escape: Option<String>,
    /// A text that is no value.
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Leave out white space around fields.
    #[arg(long)]
    trim: bool,
    /// A running server, instead of a data folder.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// How often a task is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Findings that are printed.
const FINDINGS_MAX: usize = 20;

/// Loads the files.
///
/// # Errors
///
/// [`Failure::Usage`] for a source, model or option of another form; [`Failure::Failed`] when something was
/// not taken.
pub fn run(args: &BatchLoadArgs) -> Result<(), Failure> {
    let model = read_model(&args.model)?;
    let csv = args.csv()?;
    if let Some(url) = &args.url {
        return ask(args, url, &model, &csv);
    }
    let config = args.settings.load(Vec::new())?;
    serve::log_to_stderr(&config.log);
    let (buckets, source, is_one) = place(&args.source)?;
    let spec = Spec {
        database: args.database.clone(),
        table: args.table.clone(),
        source,
        has_prefix: true,
        is_one,
        csv: Some(csv),
        model: ModelSource::Inline(model),
        report: None,
        version: args.record_version,
        buckets: Some(buckets),
    };
    in_folder(&config, spec)
}

impl BatchLoadArgs {
    fn csv(&self) -> Result<CsvConfiguration, Failure> {
        let csv = CsvConfiguration {
            column_separator: self.separator.clone(),
            escape_char: self.escape.clone(),
            quote_char: self.quote.clone(),
            null_value: self.null.clone(),
            trim_white_space: self.trim.then_some(true),
        };
        let mut violations = Violations::default();
        csv.dialect("options", &mut violations);
        if self.record_version < 1 {
            violations.range("recordVersion", self.record_version, &(1..=i64::MAX), None);
        }
        violations.finish().map_err(Failure::usage)?;
        Ok(csv)
    }
}

fn read_model(path: &Path) -> Result<DataModel, Failure> {
    let wrong = |why: String| Failure::usage(format!("--model {}: {why}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let unread = |why: String| wrong(format!("it is no data model in JSON: {why}"));
    let model = DataModel::from_file(&text).map_err(unread)?;
    let mut violations = Violations::default();
    model.check("dataModel", &mut violations);
    violations.finish().map_err(wrong)?;
    Ok(model)
}

/// Where the buckets are, which of them and what in it, and whether that is one object.
fn place(source: &str) -> Result<(String, Location, bool), Failure> {
    let wrong = |why: &str| Failure::usage(format!("--source {source}: {why}"));
    let is_one = !source.ends_with(['/', '*']);
    let named = source.strip_suffix('*').unwrap_or(source);
    if let Some((scheme, rest)) = named.split_once("://").filter(|(scheme, _)| *scheme != "file") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let at = Location { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        return Ok((format!("{scheme}://"), at, is_one && !prefix.is_empty()));
    }
    let path = Path::new(named.strip_prefix("file://").unwrap_or(named));
    let absent = |error: std::io::Error| wrong(&error.to_string());
    // A file that is named by a link is meant, wherever it lies; what is found in a folder must lie there.
    let real =
        (is_one && path.is_file()).then(|| path.canonicalize()).transpose().map_err(absent)?;
    let path = real.as_deref().unwrap_or(path);
    // A folder of files is the bucket, or the one that a file or the beginning of its name is in.
    let (folder, prefix) = if path.is_dir() {
        (path.to_owned(), String::new())
    } else {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| wrong("there is no file name that is UTF-8"))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        (parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned())
    };
    let folder = folder.canonicalize().map_err(absent)?;
    if is_one && !prefix.is_empty() {
        std::fs::metadata(folder.join(&prefix)).map_err(absent)?;
    }
    let (above, own) =
        (folder.parent().and_then(Path::to_str), folder.file_name().and_then(|n| n.to_str()));
    let (Some(buckets), Some(bucket)) = (above, own) else {
        return Err(wrong("the files lie in no folder whose name is UTF-8"));
    };
    let is_one = is_one && !prefix.is_empty();
    Ok((buckets.to_owned(), Location { bucket: bucket.to_owned(), prefix }, is_one))
}

fn in_folder(config: &Config, spec: Spec) -> Result<(), Failure> {
    let purpose = Purpose::Serve;
    let core = opened((config, purpose), "load into the server that has it by --url")?;
    let clock = SystemClock::new();
    if config.ingest.create_tables && core.catalog.resolve(&spec.database, &spec.table).is_none() {
        let (profile, now_ns) = (config.ingest.profile, clock.wall_ns());
        let (created_ns, updated_ns) = (now_ns, now_ns);
        let settings =
            TableSettings { profile, created_ns, updated_ns, ..TableSettings::default() };
        core.catalog.create(&spec.database, &spec.table, &settings).map_err(Failure::failed)?;
    }
    let interrupts = Interrupts::listen("ending; the task stays").map_err(Failure::failed)?;
    let loads = core.start_loads(config).map_err(Failure::failed)?;
    let task = to_its_end(&loads, spec, &clock, &interrupts);
    let findings = task.as_ref().ok().map(|task| loads.findings(&task.id, FINDINGS_MAX));
    loads.stop();
    drop(core);
    loads.join();
    let task = task?;
    for finding in findings.and_then(Result::ok).unwrap_or_default() {
        // Standard error may be closed; the exit code tells.
        drop(writeln!(io::stderr(), "{finding}"));
    }
    let counts = task.progress;
    told(&json!({
        "TaskId": task.id,
        "TaskStatus": task.status.name(),
        "ErrorMessage": task.message,
        "ProgressReport": {
            "RecordsProcessed": counts.records_processed,
            "RecordsIngested": counts.records_ingested,
            "ParseFailures": counts.parse_failures,
            "RecordIngestionFailures": counts.record_ingestion_failures,
            "FileFailures": counts.file_failures,
        },
    }))?;
    // Ended before it was heard: then it is what it is.
    let signal = interrupts.heard().filter(|_| task.status.is_active());
    if let Some(signal) = signal {
        let told = "the same command goes on where this one ended, and so does a server".to_owned();
        return Err(Failure::Interrupted { signal, told });
    }
    let (status, message) = (task.status.name(), task.message.as_deref().unwrap_or_default());
    if status == SUCCEEDED { Ok(()) } else { Err(Failure::failed(not_well(status, message))) }
}

/// Makes the task, or goes on with the same one that did not end.
fn to_its_end(
    loads: &Loads,
    spec: Spec,
    clock: &SystemClock,
    interrupts: &Interrupts,
) -> Result<Task, Failure> {
    let same = loads.all().into_iter().find(|task| {
        task.spec == spec && (task.status.is_active() || task.status == Status::ProgressStopped)
    });
    let id = match same {
        Some(task) => {
            if task.status == Status::ProgressStopped {
                loads.resume(&task.id).map_err(Failure::failed)?;
            }
            task.id
        }
        None => loads.create(spec, None).map_err(Failure::failed)?,
    };
    let mut progress = None;
    loop {
        let task = loads.get(&id).ok_or_else(|| Failure::failed("the task is gone"))?;
        if !task.status.is_active() || interrupts.heard().is_some() {
            return Ok(task);
        }
        let counts = task.progress;
        if counts.bytes_total > 0 {
            let bar = progress.get_or_insert_with(|| Progress::new("loading", counts.bytes_total));
            bar.at(counts.bytes_done);
        }
        interrupts.sleep(clock, LOOK);
    }
}

fn ask(
    args: &BatchLoadArgs,
    url: &str,
    model: &DataModel,
    csv: &CsvConfiguration,
) -> Result<(), Failure> {
    let (bucket, prefix) = in_server(&args.source)?;
    let mut s3 = json!({ "BucketName": bucket });
    if !prefix.is_empty() {
        s3["ObjectKeyPrefix"] = prefix.into();
    }
    let create = json!({
        "TargetDatabaseName": args.database,
        "TargetTableName": args.table,
        "RecordVersion": args.record_version,
        "DataModelConfiguration": { "DataModel": model },
        "DataSourceConfiguration": {
            "DataFormat": "CSV", "DataSourceS3Configuration": s3, "CsvConfiguration": csv,
        },
        "ReportConfiguration": {},
    });
    let mut server = Server::new(url, &args.access)?;
    let created = server.create(&create).map_err(|why| with_form(&why, &args.source));
    let id = created.map_err(Failure::failed)?["TaskId"].clone();
    let clock = SystemClock::new();
    let interrupts = Interrupts::listen("ending; the server goes on with it");
    let interrupts = interrupts.map_err(Failure::failed)?;
    let mut progress = Progress::new("records loaded", 0);
    loop {
        let described = server.call("DescribeBatchLoadTask", &json!({ "TaskId": id }));
        let mut answer = described.map_err(Failure::failed)?;
        let task = answer["BatchLoadTaskDescription"].take();
        let status = task["TaskStatus"].as_str().unwrap_or_default();
        if !Status::ALL.iter().any(|known| known.name() == status && known.is_active()) {
            drop(progress);
            told(&json!({
                "TaskId": id,
                "TaskStatus": status,
                "ErrorMessage": task["ErrorMessage"],
                "ProgressReport": task["ProgressReport"],
            }))?;
            if status == SUCCEEDED {
                return Ok(());
            }
            let why = not_well(status, task["ErrorMessage"].as_str().unwrap_or_default());
            // Nothing was found to read: the source may be of another form than was meant.
            let is_empty = task["ProgressReport"]["RecordsProcessed"].as_u64() == Some(0);
            let why = if is_empty { with_form(&why, &args.source) } else { why };
            return Err(Failure::failed(why));
        }
        progress.at(task["ProgressReport"]["RecordsProcessed"].as_u64().unwrap_or_default());
        interrupts.sleep(&clock, LOOK);
        if let Some(signal) = interrupts.heard() {
            let told = format!("the server goes on with task {}", id.as_str().unwrap_or_default());
            return Err(Failure::Interrupted { signal, told });
        }
    }
}

/// What a source is to a server.
const FORM: &str = "with --url a source is BUCKET/KEY of the server's batch_load.url";

/// The bucket, and what keys begin with, of a source that a server reads.
fn in_server(source: &str) -> Result<(&str, &str), Failure> {
    let wrong = |why: &str| Failure::usage(format!("--source {source}: {why}; {FORM}"));
    // No bucket's name begins so.
    let is_path = source.starts_with(['/', '.', '~']) || source.starts_with("file://");
    if is_path {
        return Err(wrong("it is a path, and the server reads no files of this machine"));
    }
    let named = source.strip_suffix('*').unwrap_or(source);
    let named = named.split_once("://").map_or(named, |(_, rest)| rest);
    let (bucket, prefix) = named.split_once('/').unwrap_or((named, ""));
    if bucket.is_empty() { Err(wrong("it names no bucket")) } else { Ok((bucket, prefix)) }
}

/// Why nothing of a source was loaded, and what was looked for, which may not be what was meant.
fn with_form(why: &str, source: &str) -> String {
    let Ok((bucket, prefix)) = in_server(source) else { return why.to_owned() };
    let is_file = if Path::new(source).exists() {
        format!("; the path {source} of this machine is not read")
    } else {
        String::new()
    };
    format!(
        "{why} ({FORM}: the bucket {bucket:?} and keys that begin with {prefix:?} were asked for{is_file})"
    )
}

/// The status of a task that is well.
const SUCCEEDED: &str = "SUCCEEDED";

/// Prints how far a task is.
fn told(task: &Value) -> Result<(), Failure> {
    out::say(&format!("{task:#}"))
}

/// Why a load is not well.
fn not_well(status: &str, message: &str) -> String {
    let status = if status.is_empty() { "of an unknown status" } else { status };
    format!("the load is {status}: {message}")
}

/// A running server.
struct Server {
    address: Address,
    client: Client,
    token: String,
}

impl Server {
    fn new(url: &str, access: &Access) -> Result<Self, Failure> {
        let address = Address::parse("--url", url, &access.trust)?;
        let Secret(token) = access.header()?;
        Ok(Self { client: Client::new(address.clone()), address, token })
    }

    /// Makes a task, and before it the database and the table, where they are missing.
    fn create(&mut self, create: &Value) -> Result<Value, String> {
        let answer = self.ask("CreateBatchLoadTask", create)?;
        if !answer.is(404, "ResourceNotFoundException") {
            return answer.good();
        }
        let (database, table) = (&create["TargetDatabaseName"], &create["TargetTableName"]);
        let made = self.ask("CreateDatabase", &json!({ "DatabaseName": database }))?;
        if !made.is(409, "ConflictException") {
            made.good()?;
        }
        let names = json!({ "DatabaseName": database, "TableName": table });
        let made = self.ask("CreateTable", &names)?;
        // Somebody else may have made it by now.
        if !made.is(409, "ConflictException") {
            made.good()?;
        }
        self.call("CreateBatchLoadTask", create)
    }

    fn call(&mut self, operation: &'static str, body: &Value) -> Result<Value, String> {
        self.ask(operation, body)?.good()
    }

    fn ask(&mut self, operation: &'static str, body: &Value) -> Result<Answer, String> {
        let body = body.to_string();
        let (address, token, length) = (&self.address, &self.token, body.len());
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: Timestream_20181101.{operation}\r\n\
             Content-Type: application/x-amz-json-1.0\r\n{token}Content-Length: {length}\r\n\r\n{body}"
        );
        let reply = self.client.exchange(request.as_bytes()).map_err(|error| error.to_string())?;
        let (words, status) = (reply.words(), reply.status);
        let body = serde_json::from_slice(&reply.body).unwrap_or_default();
        Ok(Answer { operation, status, body, words })
    }
}

/// What a server says to an operation.
struct Answer {
    operation: &'static str,
    status: u16,
    body: Value,
    /// For people.
    words: String,
}

impl Answer {
    /// Whether it is this exception: a server of another kind has a 404 too.
    fn is(&self, status: u16, exception: &str) -> bool {
        let found = self.body["__type"].as_str().unwrap_or_default();
        self.status == status && found.ends_with(exception)
    }

    fn good(self) -> Result<Value, String> {
        if self.status == 200 {
            return Ok(self.body);
        }
        let Self { operation, status, words, .. } = self;
        Err(format!("{operation}: {status}: {words}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_of_a_server_is_a_bucket_and_a_key_and_no_path() {
        for (source, expected) in [
            ("archive/weather/2026.csv", ("archive", "weather/2026.csv")),
            ("s3://archive/weather/*", ("archive", "weather/")),
            ("az://archive", ("archive", "")),
            ("archive//x", ("archive", "/x")),
        ] {
            assert_eq!(in_server(source).map_err(|_wrong| source), Ok(expected));
        }
        for source in
            ["/data/a.csv", "./a.csv", "../a.csv", "~/a.csv", "file:///data/a.csv", "", "s3://"]
        {
            let Err(Failure::Usage(why)) = in_server(source) else { unreachable!("{source}") };
            assert!(why.to_string().contains(FORM), "{why}");
        }
        let told = with_form("no", "none/a.csv");
        assert!(told.contains("bucket \"none\"") && !told.contains("of this machine"), "{told}");
        assert!(
            with_form("no", "src/lib.rs").ends_with("path src/lib.rs of this machine is not read)")
        );
    }

    #[test]
    fn a_source_is_a_file_a_folder_a_beginning_or_an_object() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("in")).unwrap();
        std::fs::write(root.join("in/a.csv"), b"").unwrap();
        let root = root.to_str().unwrap();
        for (source, expected) in [
            (format!("{root}/in/a.csv"), (root, "in", "a.csv", true)),
            (format!("file://{root}/in/a.csv"), (root, "in", "a.csv", true)),
            (format!("{root}/in"), (root, "in", "", false)),
            (format!("{root}/in/"), (root, "in", "", false)),
            (format!("{root}/in/a*"), (root, "in", "a", false)),
            ("s3://b/x/y.csv".to_owned(), ("s3://", "b", "x/y.csv", true)),
            ("s3://b/x/".to_owned(), ("s3://", "b", "x/", false)),
            ("gs://b".to_owned(), ("gs://", "b", "", false)),
        ] {
            let (buckets, at, is_one) = place(&source).map_err(|_wrong| source.clone()).unwrap();
            let found = (&*buckets, &*at.bucket, &*at.prefix, is_one);
            assert_eq!(found, expected, "{source}");
        }
        std::os::unix::fs::symlink("in/a.csv", format!("{root}/link.csv")).unwrap();
        let (_, at, is_one) = place(&format!("{root}/link.csv")).map_err(|_wrong| "link").unwrap();
        assert_eq!((&*at.bucket, &*at.prefix, is_one), ("in", "a.csv", true));
        for source in [format!("{root}/in/none.csv"), format!("{root}/none/a.csv"), "/".to_owned()]
        {
            assert!(matches!(place(&source), Err(Failure::Usage(_))), "{source}");
        }
    }
}
