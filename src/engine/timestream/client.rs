//! The upstream: the AWS SDK and its runtime behind calls that block. The one file of this engine that
//! knows of tasks.
//!
//! The SDK tries each request once; trying again is the shard's, which knows when the server stops and
//! never gives up. Credentials come from the settings or from the SDK's chain: environment, profile
//! files, web identity, container, instance. Single sign-on and credentials from a process are left
//! out: they are for people at a desk, and single sign-on alone costs two more clients.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_timestreamwrite as sdk;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use sdk::config::interceptors::BeforeTransmitInterceptorContextRef;
use sdk::config::retry::RetryConfig;
use sdk::config::timeout::TimeoutConfig;
use sdk::config::{ConfigBag, Credentials, Intercept, Region, RuntimeComponents};
use sdk::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use sdk::operation::write_records::WriteRecordsError;
use sdk::types::{
    MagneticStoreWriteProperties, PartitionKey, PartitionKeyEnforcementLevel, PartitionKeyType,
    RetentionProperties, Schema,
};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;

use super::Options;
use super::encode::Encoded;
use crate::engine::catalog::{Enforcement, PartitionKey as Key, Table, TableSettings};

/// How often a call looks whether the server stops.
const LOOK: Duration = Duration::from_millis(50);

/// How long a stop waits for the answer to what was sent: without it the next start sends it again.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// One record that the upstream refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Its place in the request.
    pub(super) index: usize,
    /// Why, in the upstream's words.
    pub(super) reason: String,
    /// The version that stands.
    pub(super) existing_version: Option<i64>,
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Some records were refused, the others are stored.
    Refused(Vec<Refused>),
    /// The request is wrong: the same will never succeed.
    Invalid(String),
    /// There is no such table or database.
    Missing(String),
    /// There can be none of that name or with those settings.
    Unmakable(String),
    /// The upstream is away, slow, or takes no more for now.
    Busy(String),
    /// An operator must act: credentials, permissions, quotas, region.
    Operator(String),
    /// The server stops.
    Stopping,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(records) => write!(f, "{} records refused", records.len()),
            Self::Invalid(what)
            | Self::Missing(what)
            | Self::Unmakable(what)
            | Self::Busy(what)
            | Self::Operator(what) => f.write_str(what),
            Self::Stopping => f.write_str("the server stops"),
        }
    }
}

/// The upstream, for every shard.
#[derive(Debug)]
pub(super) struct Upstream {
    /// One thread drives all sockets; a call runs on the thread that waits for it.
    handle: Handle,
    /// Taken by the end. Locked alone, and for no longer.
    runtime: Mutex<Option<Runtime>>,
    options: Options,
    /// The secret of the access key in the settings.
    secret: Option<String>,
    client: OnceCell<sdk::Client>,
    sent: Arc<Sent>,
    stopping: Arc<AtomicBool>,
}

/// Counts bytes of bodies as they are sent. Relaxed: a count, which orders nothing.
#[derive(Debug, Default)]
struct Sent(AtomicU64);

/// Counts for the SDK.
#[derive(Debug)]
struct Counter(Arc<Sent>);

impl Intercept for Counter {
    fn name(&self) -> &'static str {
        "SentBytes"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _bag: &mut ConfigBag,
    ) -> Result<(), sdk::error::BoxError> {
        let bytes = context.request().body().content_length().unwrap_or_default();
        self.0.0.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Upstream {
    /// An upstream that is spoken to with the first request, so that a start needs none.
    ///
    /// # Errors
    ///
    /// When the secret cannot be read or the system has no thread to give.
    pub(super) fn open(options: &Options, stopping: Arc<AtomicBool>) -> io::Result<Self> {
        let secret = if options.access_key.is_empty() {
            None
        } else {
            Some(std::fs::read_to_string(&options.secret_key_file)?.trim().to_owned())
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("upstream")
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            options: options.clone(),
            secret,
            client: OnceCell::new(),
            sent: Arc::default(),
            stopping,
        })
    }

    /// Whom messages name.
    pub(super) fn place(&self) -> &str {
        if self.options.endpoint.is_empty() { "Amazon Timestream" } else { &self.options.endpoint }
    }

    /// Bytes of request bodies so far, those sent again too.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent.0.load(Ordering::Relaxed)
    }

    /// Asks where records would be sent to, which needs a connection, a region and credentials.
    pub(super) fn probe(&self) -> Result<(), Failure> {
        self.run(async {
            let client = self.client().await?;
            let asked = client.describe_endpoints().send().await;
            asked.map(drop).map_err(|error| failure(&error))
        })
    }

    /// Writes a request.
    pub(super) fn write(&self, table: &Table, request: Encoded) -> Result<(), Failure> {
        self.run(async {
            let client = self.client().await?;
            let call = client
                .write_records()
                .database_name(&*table.database)
                .table_name(&*table.name)
                .common_attributes(request.common)
                .set_records(Some(request.records));
            match call.send().await {
                Ok(_counts) => Ok(()),
                Err(error) => Err(refused(&error).unwrap_or_else(|| failure(&error))),
            }
        })
    }

    /// Makes the table, and its database where there is none. Two shards may make it at once: the second
    /// hears that it is there.
    pub(super) fn create(&self, table: &Table, settings: &TableSettings) -> Result<(), Failure> {
        self.run(async {
            let client = self.client().await?;
            let database = client.create_database().database_name(&*table.database).send().await;
            unless_there(database)?;
            let retention = RetentionProperties::builder()
                .memory_store_retention_period_in_hours(settings.retention.memory_hours.into())
                .magnetic_store_retention_period_in_days(settings.retention.magnetic_days.into())
                .build()
                .map_err(|error| Failure::Operator(error.to_string()))?;
            let takes_late = settings.retention.magnetic_writes || self.options.magnetic_writes;
            let magnetic = MagneticStoreWriteProperties::builder()
                .enable_magnetic_store_writes(takes_late)
                .build()
                .map_err(|error| Failure::Operator(error.to_string()))?;
            let made = client
                .create_table()
                .database_name(&*table.database)
                .table_name(&*table.name)
                .retention_properties(retention)
                .magnetic_store_write_properties(magnetic)
                .set_schema(schema(&settings.partition_key))
                .send()
                .await;
            unless_there(made)
        })
    }

    /// Ends the runtime. Nothing may be asked afterwards.
    pub(super) fn close(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// Runs a call on this thread, until its end or the server's.
    fn run<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.handle.block_on(async {
            tokio::select! {
                done = call => done,
                () = self.stopped() => Err(Failure::Stopping),
            }
        })
    }

    async fn stopped(&self) {
        // Acquire: pairs with the Release store of the stop.
        while !self.stopping.load(Ordering::Acquire) {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(STOP_GRACE).await;
    }

    async fn client(&self) -> Result<&sdk::Client, Failure> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<sdk::Client, Failure> {
        let options = &self.options;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(options.connect_timeout.0)
            .operation_timeout(options.request_timeout.0)
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts);
        if !options.region.is_empty() {
            loader = loader.region(Region::new(options.region.clone()));
        }
        if let Some(secret) = &self.secret {
            let id = &options.access_key;
            let credentials = Credentials::new(id, secret, None, None, "engine.timestream");
            loader = loader.credentials_provider(credentials);
        }
        let shared = loader.load().await;
        if shared.region().is_none() {
            let what = "no region: set engine.timestream.region or AWS_REGION";
            return Err(Failure::Operator(what.to_owned()));
        }
        let mut config =
            sdk::config::Builder::from(&shared).interceptor(Counter(Arc::clone(&self.sent)));
        if !options.endpoint.is_empty() {
            config = config.endpoint_url(&options.endpoint);
        }
        let client = sdk::Client::from_conf(config.build());
        if !options.endpoint.is_empty() {
            return Ok(client);
        }
        // Amazon answers at a cell's host only, which changes.
        let (client, reload) = client
            .with_endpoint_discovery_enabled()
            .await
            .map_err(|error| Failure::Operator(format!("endpoint discovery: {error}")))?;
        drop(tokio::spawn(reload.reload_task()));
        Ok(client)
    }
}

/// The records that a 419 names.
fn refused<R>(error: &SdkError<WriteRecordsError, R>) -> Option<Failure> {
    let WriteRecordsError::RejectedRecordsException(rejected) = error.as_service_error()? else {
        return None;
    };
    let records = rejected.rejected_records().iter().map(|record| Refused {
        index: usize::try_from(record.record_index()).unwrap_or(usize::MAX),
        reason: record.reason().unwrap_or_default().to_owned(),
        existing_version: record.existing_version(),
    });
    let records: Vec<Refused> = records.collect();
    // Who refuses and names nobody has it asked record by record, as for a request that is wrong.
    Some(if records.is_empty() {
        Failure::Invalid(rejected.to_string())
    } else {
        Failure::Refused(records)
    })
}

/// What exists already needs no making.
fn unless_there<T, E, R>(made: Result<T, SdkError<E, R>>) -> Result<(), Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Status,
{
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("ConflictException") => Ok(()),
        Err(error) => match failure(&error) {
            Failure::Invalid(words) => Err(Failure::Unmakable(words)),
            other => Err(other),
        },
    }
}

/// The status of an answer.
trait Status: fmt::Debug {
    fn status(&self) -> u16;
}

impl Status for sdk::config::http::HttpResponse {
    fn status(&self) -> u16 {
        self.status().as_u16()
    }
}

/// What to do about an error. Source: Timestream API, the errors of its operations; whatever is not
/// listed is an operator's to look at, and tried again all the same.
fn failure<E, R>(error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Status,
{
    let status = error.raw_response().map_or(0, Status::status);
    let code = error.code().unwrap_or_default();
    let words = match (code, error.message()) {
        ("", None) if status > 0 => format!("HTTP {status}"),
        ("", _) => DisplayErrorContext(error).to_string(),
        (code, message) => format!("{code}: {}", message.unwrap_or_default()),
    };
    match (code, status) {
        ("ThrottlingException" | "InternalServerException" | "InvalidEndpointException", _)
        | (_, 408 | 421 | 429 | 500..) => Failure::Busy(words),
        ("ValidationException" | "SerializationException", _) | (_, 413) => Failure::Invalid(words),
        ("ResourceNotFoundException", _) => Failure::Missing(words),
        (_, 0) if !matches!(error, SdkError::ConstructionFailure(_)) => Failure::Busy(words),
        _ => Failure::Operator(words),
    }
}

fn schema(key: &Key) -> Option<Schema> {
    let Key::Dimension { name, enforcement } = key else { return None };
    let level = match enforcement {
        Enforcement::Required => PartitionKeyEnforcementLevel::Required,
        Enforcement::Optional => PartitionKeyEnforcementLevel::Optional,
    };
    let part = PartitionKey::builder()
        .r#type(PartitionKeyType::Dimension)
        .name(name)
        .enforcement_in_record(level)
        .build()
        .expect("its type is given");
    Some(Schema::builder().composite_partition_key(part).build())
}
