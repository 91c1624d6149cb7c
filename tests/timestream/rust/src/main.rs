//! Every operation once, by the SDK for Rust, at the URL that is its argument.

use std::error::Error;
use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_sdk_timestreamwrite::Client;
use aws_sdk_timestreamwrite::config::retry::RetryConfig;
use aws_sdk_timestreamwrite::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_timestreamwrite::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_timestreamwrite::operation::RequestId;
use aws_sdk_timestreamwrite::operation::write_records::{WriteRecordsError, WriteRecordsOutput};
use aws_sdk_timestreamwrite::types::{
    Dimension, MagneticStoreWriteProperties, MeasureValue, MeasureValueType, Record,
    RetentionProperties, TableStatus, Tag, TimeUnit,
};

type Outcome = Result<(), Box<dyn Error>>;

/// What a call ended in.
type Answer<T, E> = Result<T, SdkError<E>>;

const DATABASE: &str = "by-rust";
const TABLE: &str = "cpu.load-1";
const ARN: &str = "arn:aws:timestream:eu-west-1:000000000000:database/by-rust";

fn main() -> Outcome {
    let url = std::env::args().nth(1).ok_or("the server's URL is missing")?;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "any", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        // What is refused is to be seen at once.
        .retry_config(RetryConfig::disabled())
        .endpoint_url(&url)
        .build();
    let client = Client::from_conf(config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        databases(&client).await?;
        tables(&client).await?;
        tags(&client).await?;
        writes(&client).await?;
        others(&client, &url).await?;
        deletes(&client).await
    })?;
    println!("the SDK for Rust ran every operation");
    Ok(())
}

/// The error that a call must end in.
fn refused<T: Debug, E>(answer: Answer<T, E>, status: u16, code: &str) -> E
where
    E: ProvideErrorMetadata + Debug + Error + Send + Sync + 'static,
{
    let error = answer.expect_err(code);
    let found = error.raw_response().map(|response| response.status().as_u16());
    assert_eq!(found, Some(status), "{error:?}");
    assert_eq!(error.request_id().map(str::len), Some(26), "{error:?}");
    let SdkError::ServiceError(answered) = error else { panic!("no answer: {error:?}") };
    let error = answered.into_err();
    assert_eq!(error.code(), Some(code), "{error:?}");
    assert!(error.message().is_some_and(|message| !message.is_empty()), "{error:?}");
    error
}

fn tag(key: &str, value: &str) -> Tag {
    Tag::builder().key(key).value(value).build().expect("both are there")
}

async fn databases(client: &Client) -> Outcome {
    let create = || client.create_database().database_name(DATABASE);
    let made = create().tags(tag("k", "")).send().await?;
    assert_eq!(made.request_id().map(str::len), Some(26));
    let database = made.database().ok_or("a database")?;
    assert_eq!((database.arn(), database.table_count()), (Some(ARN), 0));
    let age = now_ms().abs_diff(database.creation_time().ok_or("a time")?.to_millis()?);
    assert!(age < 60_000, "{database:?}");
    let error = refused(create().send().await, 409, "ConflictException");
    assert!(error.is_conflict_exception());
    let describe = |name: &str| client.describe_database().database_name(name).send();
    assert_eq!(describe(DATABASE).await?.database(), Some(database));
    let error = refused(describe("nowhere").await, 404, "ResourceNotFoundException");
    assert!(error.is_resource_not_found_exception());
    let update = client.update_database().database_name(DATABASE).kms_key_id("alias/x");
    let updated = update.send().await?;
    assert_eq!(updated.database().and_then(|database| database.kms_key_id()), Some("alias/x"));
    let listed = client.list_databases().send().await?;
    let names: Vec<_> =
        listed.databases().iter().map(|database| database.database_name()).collect();
    assert_eq!(names, [Some(DATABASE)]);
    Ok(())
}

async fn tables(client: &Client) -> Outcome {
    let create = |name: &str| client.create_table().database_name(DATABASE).table_name(name).send();
    let made = create(TABLE).await?;
    let table = made.table().ok_or("a table")?;
    assert_eq!(table.arn(), Some(format!("{ARN}/table/{TABLE}").as_str()));
    assert_eq!(table.table_status(), Some(&TableStatus::Active));
    assert_eq!(table.retention_properties(), Some(&retention(6, 73_000)));
    refused(create(TABLE).await, 409, "ConflictException");
    let describe =
        |name: &str| client.describe_table().database_name(DATABASE).table_name(name).send();
    assert_eq!(describe(TABLE).await?.table(), Some(table));
    refused(describe("none").await, 404, "ResourceNotFoundException");
    let magnetic =
        MagneticStoreWriteProperties::builder().enable_magnetic_store_writes(true).build()?;
    let update = client.update_table().database_name(DATABASE).table_name(TABLE);
    let update = update.retention_properties(retention(24, 7));
    let updated = update.magnetic_store_write_properties(magnetic.clone()).send().await?;
    let table = updated.table().ok_or("a table")?;
    assert_eq!(table.retention_properties(), Some(&retention(24, 7)));
    assert_eq!(table.magnetic_store_write_properties(), Some(&magnetic));
    create("second").await?;
    let mut pages =
        client.list_tables().database_name(DATABASE).max_results(1).into_paginator().send();
    let mut names = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page?;
        assert!(page.tables().len() <= 1, "{page:?}");
        names
            .extend(page.tables().iter().filter_map(|table| table.table_name().map(str::to_owned)));
    }
    assert_eq!(names, [TABLE, "second"]);
    Ok(())
}

fn retention(hours: i64, days: i64) -> RetentionProperties {
    let properties = RetentionProperties::builder()
        .memory_store_retention_period_in_hours(hours)
        .magnetic_store_retention_period_in_days(days);
    properties.build().expect("both are there")
}

async fn tags(client: &Client) -> Outcome {
    let add = client.tag_resource().resource_arn(ARN).tags(tag("a", "b"));
    add.send().await?;
    client.untag_resource().resource_arn(ARN).tag_keys("k").send().await?;
    let shown = client.list_tags_for_resource().resource_arn(ARN).send().await?;
    assert_eq!(shown.tags(), [tag("a", "b")]);
    let other = client.list_tags_for_resource().resource_arn(format!("{ARN}/table/none"));
    refused(other.send().await, 404, "ResourceNotFoundException");
    let foreign = client.list_tags_for_resource().resource_arn("arn:aws:s3:::bucket");
    refused(foreign.send().await, 400, "ValidationException");
    Ok(())
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
    i64::try_from(now.as_millis()).expect("a clock that is right")
}

fn record(host: &str, time_ms: i64, load: &str) -> Record {
    let host = Dimension::builder().name("host").value(host).build().expect("both are there");
    let load = MeasureValue::builder().name("load").value(load).r#type(MeasureValueType::Double);
    let record = Record::builder().dimensions(host).measure_name("é☃").time(time_ms.to_string());
    let record = record.time_unit(TimeUnit::Milliseconds);
    let record = record.measure_value_type(MeasureValueType::Multi);
    record.measure_values(load.build().expect("all are there")).build()
}

async fn write(
    client: &Client,
    table: &str,
    records: Vec<Record>,
) -> Answer<WriteRecordsOutput, WriteRecordsError> {
    let request = client.write_records().database_name(DATABASE).table_name(table);
    request.set_records(Some(records)).send().await
}

async fn writes(client: &Client) -> Outcome {
    let now = now_ms();
    let written =
        write(client, TABLE, vec![record("a", now, "1.5"), record("b", now, "2")]).await?;
    let ingested = written.records_ingested().ok_or("a count")?;
    let stores = (ingested.total(), ingested.memory_store(), ingested.magnetic_store());
    assert_eq!(stores, (2, 2, 0));
    let late = record("late", now - 48 * 3_600_000, "1");
    let written = write(client, TABLE, vec![late]).await?;
    assert_eq!(written.records_ingested().map(|ingested| ingested.magnetic_store()), Some(1));
    let conflict = vec![record("c", now, "1"), record("a", now, "7")];
    let error = refused(write(client, TABLE, conflict).await, 419, "RejectedRecordsException");
    let WriteRecordsError::RejectedRecordsException(error) = error else {
        return Err(format!("{error:?}").into());
    };
    let [rejected] = error.rejected_records() else { return Err(format!("{error:?}").into()) };
    assert_eq!((rejected.record_index(), rejected.existing_version()), (1, Some(1)));
    let reason = rejected.reason().unwrap_or_default();
    assert!(reason.starts_with("A record already exists with the same time"), "{reason}");
    let mut corrected = record("a", now, "7");
    corrected.version = Some(2);
    write(client, TABLE, vec![corrected]).await?;
    let mut invalid = record("a", now, "1");
    invalid.version = Some(0);
    let error = refused(write(client, TABLE, vec![invalid]).await, 400, "ValidationException");
    assert!(error.is_validation_exception());
    let nowhere = write(client, "none", vec![record("a", now, "1")]).await;
    refused(nowhere, 404, "ResourceNotFoundException");
    Ok(())
}

async fn others(client: &Client, url: &str) -> Outcome {
    let described = client.describe_endpoints().send().await?;
    let [endpoint] = described.endpoints() else { return Err("one endpoint".into()) };
    // This SDK puts `https://` before what it discovers.
    assert_eq!(Some(endpoint.address()), url.strip_prefix("http://"));
    assert_eq!(endpoint.cache_period_in_minutes(), 1440);
    let made = client.create_batch_load_task().send().await;
    refused(made, 400, "ValidationException");
    let batch_loads = client.list_batch_load_tasks().send().await?;
    assert_eq!(batch_loads.batch_load_tasks().len(), 0);
    let batch_load = client.describe_batch_load_task().task_id("a").send().await;
    refused(batch_load, 400, "ValidationException");
    let resumed = client.resume_batch_load_task().task_id("a").send().await;
    refused(resumed, 400, "ValidationException");
    Ok(())
}

async fn deletes(client: &Client) -> Outcome {
    let delete = || client.delete_database().database_name(DATABASE).send();
    refused(delete().await, 400, "ValidationException");
    for table in [TABLE, "second"] {
        client.delete_table().database_name(DATABASE).table_name(table).send().await?;
    }
    delete().await?;
    refused(delete().await, 404, "ResourceNotFoundException");
    Ok(())
}
