//! What the operations on batch loads are sent, and the constraints on it.

use serde::Deserialize;

use super::exception::Exception;
use super::settings::{BUCKET_PATTERN, is_bucket};
use crate::load::task::{Location, ModelSource, ReportLocation, Spec};
use crate::protocol::csv::model::{CsvConfiguration, DataModel};
use crate::protocol::timestream::coral::{NAME_PATTERN, Violations};
use crate::protocol::timestream::object;
use crate::record::limits::TABLE_NAME_BYTES_MAX;

/// Lengths, in characters. Source: Timestream API, `S3BucketName`, `S3ObjectKeyPrefix`, `S3ObjectKey`,
/// `StringValue2048`, `ClientRequestToken`.
const BUCKET_CHARS: std::ops::RangeInclusive<i64> = 3..=63;
const PREFIX_CHARS: std::ops::RangeInclusive<i64> = 1..=928;
const KEY_CHARS: std::ops::RangeInclusive<i64> = 1..=1024;
const KMS_KEY_CHARS: std::ops::RangeInclusive<i64> = 1..=2048;
const TOKEN_CHARS: std::ops::RangeInclusive<i64> = 1..=64;

/// `CreateBatchLoadTask`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Create {
    pub(super) client_token: Option<String>,
    #[serde(deserialize_with = "object::option")]
    data_model_configuration: Option<ModelConfiguration>,
    #[serde(deserialize_with = "object::option")]
    data_source_configuration: Option<SourceConfiguration>,
    #[serde(deserialize_with = "object::option")]
    report_configuration: Option<ReportConfiguration>,
    target_database_name: Option<String>,
    target_table_name: Option<String>,
    record_version: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ModelConfiguration {
    #[serde(deserialize_with = "object::option")]
    data_model: Option<DataModel>,
    #[serde(rename = "DataModelS3Configuration", deserialize_with = "object::option")]
    s3: Option<ModelObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ModelObject {
    bucket_name: Option<String>,
    object_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SourceConfiguration {
    #[serde(rename = "DataSourceS3Configuration", deserialize_with = "object::option")]
    s3: Option<Place>,
    #[serde(deserialize_with = "object::option")]
    csv_configuration: Option<CsvConfiguration>,
    data_format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Place {
    bucket_name: Option<String>,
    object_key_prefix: Option<String>,
    encryption_option: Option<String>,
    kms_key_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ReportConfiguration {
    #[serde(rename = "ReportS3Configuration", deserialize_with = "object::option")]
    s3: Option<Place>,
}

impl Create {
    /// What is asked.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400 names every violation.
    pub(super) fn spec(self) -> Result<Spec, Exception> {
        let mut violations = Violations::default();
        if let Some(token) = &self.client_token {
            violations.length("clientToken", token, &TOKEN_CHARS);
        }
        let database = name("targetDatabaseName", self.target_database_name, &mut violations);
        let table = name("targetTableName", self.target_table_name, &mut violations);
        let version = self.record_version.unwrap_or(1);
        violations.range("recordVersion", version, &(1..=i64::MAX), None);
        let model = self.data_model_configuration.unwrap_or_default().checked(&mut violations);
        if self.data_source_configuration.is_none() {
            violations.required("dataSourceConfiguration");
        }
        let source = self.data_source_configuration.unwrap_or_default();
        source.check(&mut violations);
        let at = "dataSourceConfiguration.csvConfiguration";
        if let Some(csv) = &source.csv_configuration {
            csv.dialect(at, &mut violations);
        }
        if self.report_configuration.is_none() {
            violations.required("reportConfiguration");
        }
        let report = self.report_configuration.and_then(|report| report.s3);
        let report = report.map(|s3| s3.report(&mut violations)).transpose();
        violations.finish().map_err(Exception::invalid)?;
        let s3 = source.s3.unwrap_or_default();
        let has_prefix = s3.object_key_prefix.is_some();
        let prefix = s3.object_key_prefix.unwrap_or_default();
        let source_at = Location { bucket: s3.bucket_name.unwrap_or_default(), prefix };
        let csv = source.csv_configuration;
        let report = report?;
        let source = source_at;
        Ok(Spec {
            database,
            table,
            source,
            has_prefix,
            is_one: false,
            csv,
            model,
            report,
            version,
            buckets: None,
        })
    }
}

fn name(path: &str, name: Option<String>, violations: &mut Violations) -> String {
    let Some(name) = name else {
        violations.required(path);
        return String::new();
    };
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if name.is_empty() || name.len() > TABLE_NAME_BYTES_MAX || !name.bytes().all(is_allowed) {
        violations.no_match(path, &name, NAME_PATTERN);
    }
    name
}

fn bucket(path: &str, bucket: Option<&String>, violations: &mut Violations) {
    let Some(bucket) = bucket else { return violations.required(path) };
    violations.length(path, bucket, &BUCKET_CHARS);
    if !is_bucket(bucket) {
        violations.no_match(path, bucket, BUCKET_PATTERN);
    }
}

impl ModelConfiguration {
    fn checked(self, violations: &mut Violations) -> ModelSource {
        const AT: &str = "dataModelConfiguration";
        match (self.data_model, self.s3) {
            (Some(model), None) => {
                model.check(&format!("{AT}.dataModel"), violations);
                ModelSource::Inline(model)
            }
            (None, Some(object)) => {
                let at = format!("{AT}.dataModelS3Configuration");
                bucket(&format!("{at}.bucketName"), object.bucket_name.as_ref(), violations);
                match &object.object_key {
                    None => violations.required(format!("{at}.objectKey")),
                    Some(key) => violations.length(format!("{at}.objectKey"), key, &KEY_CHARS),
                }
                let bucket = object.bucket_name.unwrap_or_default();
                ModelSource::Object { bucket, key: object.object_key.unwrap_or_default() }
            }
            (None, None) => {
                violations.required(format!("{AT}.dataModel"));
                ModelSource::Inline(DataModel::default())
            }
            (Some(model), Some(_)) => {
                let right = "Member must be null where dataModelS3Configuration is there";
                violations.add(format!("{AT}.dataModel"), Some(""), right);
                ModelSource::Inline(model)
            }
        }
    }
}

impl SourceConfiguration {
    fn check(&self, violations: &mut Violations) {
        const AT: &str = "dataSourceConfiguration";
        match self.data_format.as_deref() {
            None => violations.required(format!("{AT}.dataFormat")),
            Some("CSV") => {}
            Some(other) => violations.not_in(format!("{AT}.dataFormat"), other, &["CSV"]),
        }
        let at = format!("{AT}.dataSourceS3Configuration");
        let Some(s3) = &self.s3 else { return violations.required(at) };
        bucket(&format!("{at}.bucketName"), s3.bucket_name.as_ref(), violations);
        if let Some(prefix) = &s3.object_key_prefix {
            violations.length(format!("{at}.objectKeyPrefix"), prefix, &(1..=*KEY_CHARS.end()));
        }
    }
}

impl Place {
    fn report(self, violations: &mut Violations) -> Result<ReportLocation, Exception> {
        const AT: &str = "reportConfiguration.reportS3Configuration";
        bucket(&format!("{AT}.bucketName"), self.bucket_name.as_ref(), violations);
        if let Some(prefix) = &self.object_key_prefix {
            violations.length(format!("{AT}.objectKeyPrefix"), prefix, &PREFIX_CHARS);
        }
        if let Some(key) = &self.kms_key_id {
            violations.length(format!("{AT}.kmsKeyId"), key, &KMS_KEY_CHARS);
        }
        let encryption = self.encryption_option;
        match encryption.as_deref() {
            None | Some("SSE_S3" | "SSE_KMS") => {}
            Some(other) => {
                let all = ["SSE_S3", "SSE_KMS"];
                violations.not_in(format!("{AT}.encryptionOption"), other, &all);
            }
        }
        let is_kms = encryption.as_deref() == Some("SSE_KMS");
        if is_kms && self.kms_key_id.is_none() {
            return Err(Exception::invalid("EncryptionOption SSE_KMS needs a KmsKeyId."));
        }
        let prefix = self.object_key_prefix.unwrap_or_default();
        let at = Location { bucket: self.bucket_name.unwrap_or_default(), prefix };
        Ok(ReportLocation { at, encryption, kms_key: self.kms_key_id.filter(|_| is_kms) })
    }
}

/// `DescribeBatchLoadTask`, `ResumeBatchLoadTask`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Named {
    task_id: Option<String>,
}

impl Named {
    /// The task's name.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400 where it is missing, or of another form.
    pub(super) fn id(self) -> Result<String, Exception> {
        let mut violations = Violations::default();
        match &self.task_id {
            None => violations.required("taskId"),
            Some(id) => {
                violations.length("taskId", id, &(3..=32));
                if !id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
                    violations.no_match("taskId", id, "[A-Z0-9]+");
                }
            }
        }
        violations.finish().map_err(Exception::invalid)?;
        Ok(self.task_id.unwrap_or_default())
    }
}

/// `ListBatchLoadTasks`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct List {
    pub(super) next_token: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) task_status: Option<String>,
}
