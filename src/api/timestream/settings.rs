//! The settings of a table as Timestream's API says them: retention, magnetic store, schema.

use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::Exception;
use super::input::Checks;
use crate::engine::catalog::{
    Encryption, Enforcement, PartitionKey, RejectLocation, Retention, TableSettings,
};
use crate::protocol::timestream::object::{self, List, Object};
use crate::record::limits::{MAGNETIC_RETENTION_DAYS_MAX, MEMORY_RETENTION_HOURS_MAX};
use crate::record::validate::strict;

/// Lengths of a bucket's name. Source: Timestream API, `S3BucketName`.
const BUCKET_CHARS: std::ops::RangeInclusive<i64> = 3..=63;

/// Lengths of a prefix. Source: Timestream API, `S3ObjectKeyPrefix`.
const PREFIX_CHARS: std::ops::RangeInclusive<i64> = 1..=928;

/// Source: Timestream API, `S3BucketName`.
pub(super) const BUCKET_PATTERN: &str = "[a-z0-9][\\.\\-a-z0-9]{1,61}[a-z0-9]";

/// Source: Timestream API, `S3ObjectKeyPrefix`.
const PREFIX_PATTERN: &str = "[a-zA-Z0-9|!\\-_*'\\(\\)]([a-zA-Z0-9]|[!\\-_*'\\(\\)\\/.])+";

/// Lengths of a key's name. Source: Timestream API, `StringValue2048`.
const KMS_KEY_CHARS: std::ops::RangeInclusive<i64> = 1..=2048;

/// `RetentionProperties`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RetentionProperties {
    memory_store_retention_period_in_hours: Option<i64>,
    magnetic_store_retention_period_in_days: Option<i64>,
}

impl RetentionProperties {
    /// Holds it against its constraints.
    pub fn check(&self, checks: &mut Checks) {
        for (path, found, most) in [
            (
                "retentionProperties.memoryStoreRetentionPeriodInHours",
                self.memory_store_retention_period_in_hours,
                MEMORY_RETENTION_HOURS_MAX,
            ),
            (
                "retentionProperties.magneticStoreRetentionPeriodInDays",
                self.magnetic_store_retention_period_in_days,
                MAGNETIC_RETENTION_DAYS_MAX,
            ),
        ] {
            match found {
                None => checks.missing(path),
                Some(found) => checks.range(path, found, &(1..=i64::from(most))),
            }
        }
    }

    /// Hours in the memory store, within their range.
    pub fn hours(&self) -> Option<u32> {
        self.memory_store_retention_period_in_hours.and_then(|hours| u32::try_from(hours).ok())
    }

    /// Days in the magnetic store, within their range.
    pub fn days(&self) -> Option<u32> {
        self.magnetic_store_retention_period_in_days.and_then(|days| u32::try_from(days).ok())
    }
}

/// `MagneticStoreWriteProperties`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MagneticStore {
    enable_magnetic_store_writes: Option<bool>,
    #[serde(deserialize_with = "object::option")]
    magnetic_store_rejected_data_location: Option<Location>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Location {
    #[serde(rename = "S3Configuration", deserialize_with = "object::option")]
    s3: Option<S3Configuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct S3Configuration {
    bucket_name: Option<String>,
    object_key_prefix: Option<String>,
    encryption_option: Option<String>,
    kms_key_id: Option<String>,
}

/// The magnetic store as it is asked for.
#[derive(Debug)]
pub struct Magnetic {
    /// Whether late records are taken.
    pub is_enabled: bool,
    /// Where conflicts are reported.
    pub rejected: Option<RejectLocation>,
}

impl MagneticStore {
    /// Holds it against its constraints; what it returns counts only if nothing was found.
    pub fn checked(self, checks: &mut Checks) -> Magnetic {
        const AT: &str = "magneticStoreWriteProperties";
        if self.enable_magnetic_store_writes.is_none() {
            checks.missing(&format!("{AT}.enableMagneticStoreWrites"));
        }
        let s3 = self.magnetic_store_rejected_data_location.and_then(|location| location.s3);
        let at = format!("{AT}.magneticStoreRejectedDataLocation.s3Configuration");
        Magnetic {
            is_enabled: self.enable_magnetic_store_writes.unwrap_or_default(),
            rejected: s3.and_then(|s3| s3.checked(&at, checks)),
        }
    }
}

impl S3Configuration {
    /// A location without a bucket is none.
    fn checked(self, at: &str, checks: &mut Checks) -> Option<RejectLocation> {
        for (member, text, range) in [
            ("bucketName", &self.bucket_name, &BUCKET_CHARS),
            ("objectKeyPrefix", &self.object_key_prefix, &PREFIX_CHARS),
            ("kmsKeyId", &self.kms_key_id, &KMS_KEY_CHARS),
        ] {
            if let Some(text) = text {
                checks.length(&format!("{at}.{member}"), text, range);
            }
        }
        if let Some(bucket) = self.bucket_name.as_ref().filter(|name| !is_bucket(name)) {
            checks.no_match(&format!("{at}.bucketName"), bucket, BUCKET_PATTERN);
        }
        if let Some(prefix) = self.object_key_prefix.as_ref().filter(|text| !is_prefix(text)) {
            checks.no_match(&format!("{at}.objectKeyPrefix"), prefix, PREFIX_PATTERN);
        }
        let encryption = match self.encryption_option.as_deref() {
            None => None,
            Some("SSE_S3") => Some(Encryption::SseS3),
            Some("SSE_KMS") => Some(Encryption::SseKms),
            Some(other) => {
                checks.not_in(&format!("{at}.encryptionOption"), other, &["SSE_S3", "SSE_KMS"]);
                None
            }
        };
        let (key_prefix, kms_key) = (self.object_key_prefix, self.kms_key_id);
        self.bucket_name.map(|bucket| RejectLocation { bucket, key_prefix, encryption, kms_key })
    }
}

/// Whether a text has the form of [`BUCKET_PATTERN`], apart from its length.
pub(super) fn is_bucket(text: &str) -> bool {
    let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|byte| byte.is_some_and(is_end))
        && text.bytes().all(|byte| is_end(byte) || matches!(byte, b'.' | b'-'))
}

/// Whether a text has the form of [`PREFIX_PATTERN`].
fn is_prefix(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_*'()".contains(&byte);
    let Some((&first, rest)) = text.as_bytes().split_first() else { return false };
    (is_plain(first) || first == b'|')
        && !rest.is_empty()
        && rest.iter().all(|&byte| is_plain(byte) || matches!(byte, b'/' | b'.'))
}

/// Keys of a schema that are looked at: one more than it may have.
const KEYS_KEPT: usize = 2;

/// `Schema`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Schema {
    composite_partition_key: Option<List<Object<Key>, KEYS_KEPT>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Key {
    r#type: Option<String>,
    name: Option<String>,
    enforcement_in_record: Option<String>,
}

impl Schema {
    /// Holds it against its constraints.
    pub fn check(&self, checks: &mut Checks) {
        const AT: &str = "schema.compositePartitionKey";
        let Some(keys) = &self.composite_partition_key else { return };
        checks.count(AT, "keys", keys.count, &(1..=i64::MAX));
        for (at, Object(key)) in keys.items.iter().enumerate() {
            let at = |member: &str| format!("{AT}.{}.member.{member}", at + 1);
            match key.r#type.as_deref() {
                None => checks.missing(&at("type")),
                Some("DIMENSION" | "MEASURE") => {}
                Some(other) => checks.not_in(&at("type"), other, &["DIMENSION", "MEASURE"]),
            }
            if let Some(name) = &key.name {
                checks.length(&at("name"), name, &(1..=i64::MAX));
            }
            match key.enforcement_in_record.as_deref() {
                None | Some("REQUIRED" | "OPTIONAL") => {}
                Some(other) => {
                    checks.not_in(&at("enforcementInRecord"), other, &["REQUIRED", "OPTIONAL"]);
                }
            }
        }
    }

    /// The key that it names; `None` where it names none.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400 for more than one, one that does not fit its type, or the name of no dimension.
    pub fn key(&self) -> Result<Option<PartitionKey>, Exception> {
        let Some(keys) = &self.composite_partition_key else { return Ok(None) };
        let [Object(key)] = keys.items.as_slice() else {
            return Err(Exception::invalid(
                "You have specified too many partition keys to be used in your composite partition \
                 key. Only 1 partition keys can be specified.",
            ));
        };
        match (key.r#type.as_deref(), &key.name) {
            (Some("DIMENSION"), Some(name)) => {
                let enforcement = match key.enforcement_in_record.as_deref() {
                    Some("REQUIRED") => Enforcement::Required,
                    _ => Enforcement::Optional,
                };
                // One that no record can carry would keep all out of the table.
                strict::dimension_name(name).map_err(|(_, message)| {
                    Exception::invalid(format!("Invalid partition key: {message}."))
                })?;
                Ok(Some(PartitionKey::Dimension { name: name.clone(), enforcement }))
            }
            (Some("DIMENSION"), None) => {
                Err(Exception::invalid("A partition key of type DIMENSION needs a Name."))
            }
            (_, None) if key.enforcement_in_record.is_none() => Ok(Some(PartitionKey::Measure)),
            _ => Err(Exception::invalid(
                "A partition key of type MEASURE has neither Name nor EnforcementInRecord.",
            )),
        }
    }
}

/// A retention, as `RetentionProperties`.
pub fn shown_retention(retention: Retention) -> Value {
    json!({
        "MemoryStoreRetentionPeriodInHours": retention.memory_hours,
        "MagneticStoreRetentionPeriodInDays": retention.magnetic_days,
    })
}

/// A magnetic store, as `MagneticStoreWriteProperties`.
pub fn shown_magnetic(settings: &TableSettings) -> Value {
    let mut shown = json!({ "EnableMagneticStoreWrites": settings.retention.magnetic_writes });
    let Some(location) = &settings.rejected_data else { return shown };
    let mut s3 = json!({ "BucketName": location.bucket });
    if let Some(prefix) = &location.key_prefix {
        s3["ObjectKeyPrefix"] = prefix.as_str().into();
    }
    if let Some(encryption) = location.encryption {
        s3["EncryptionOption"] = match encryption {
            Encryption::SseS3 => "SSE_S3".into(),
            Encryption::SseKms => "SSE_KMS".into(),
        };
    }
    if let Some(key) = &location.kms_key {
        s3["KmsKeyId"] = key.as_str().into();
    }
    shown["MagneticStoreRejectedDataLocation"] = json!({ "S3Configuration": s3 });
    shown
}

/// A partition key, as `Schema`.
pub fn shown_schema(key: &PartitionKey) -> Value {
    let key = match key {
        PartitionKey::Measure => json!({ "Type": "MEASURE" }),
        PartitionKey::Dimension { name, enforcement } => json!({
            "Type": "DIMENSION",
            "Name": name,
            "EnforcementInRecord": match enforcement {
                Enforcement::Required => "REQUIRED",
                Enforcement::Optional => "OPTIONAL",
            },
        }),
    };
    json!({ "CompositePartitionKey": [key] })
}
