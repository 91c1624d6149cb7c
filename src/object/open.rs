//! Stores by URL, and services by the buckets that they have.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};

use super::error::READ_SECRET;
use super::folder::Folder;
use super::http::Connector;
use super::listing::{Asked, Pages};
use super::{CALL_MAX, Key, ObjectError, Store};

/// Settings of the section `object`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The address of a service that speaks S3's protocol, such as `"http://127.0.0.1:9000"`; for
    /// `az://` that of the account. Empty: `AWS_ENDPOINT_URL` where it is set, else the cloud's own.
    pub endpoint: String,
    /// The region that requests are signed for. Empty: `AWS_REGION`, else `us-east-1`.
    pub region: String,
    /// The access key; for `az://` the name of the account. Empty: `AWS_ACCESS_KEY_ID`, else what the
    /// machine's role gives; `AZURE_STORAGE_ACCOUNT_NAME`.
    pub access_key_id: String,
    /// The file that holds the secret of it, and nothing else. Empty: `AWS_SECRET_ACCESS_KEY`;
    /// `AZURE_STORAGE_ACCOUNT_KEY`.
    pub secret_access_key_file: PathBuf,
}

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let host = ["http://", "https://"].iter().find_map(|form| self.endpoint.strip_prefix(form));
        let is_url =
            host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace));
        if !self.endpoint.is_empty() && !is_url {
            let found = &self.endpoint;
            problems
                .push(format!("object.endpoint: {found:?} is not http://HOST:PORT or https://"));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !self.region.chars().all(is_name) {
            let found = &self.region;
            problems.push(format!(
                "object.region: {found:?} is not of letters, digits and dashes, as eu-west-1 is"
            ));
        }
        if self.access_key_id.is_empty() && !self.secret_access_key_file.as_os_str().is_empty() {
            problems.push(
                "object.access_key_id: empty, and secret_access_key_file has a secret of it"
                    .to_owned(),
            );
        }
        problems
    }
}

/// Tries of the crate before it says that a service is away; the callers of this module try again.
const RETRIES_MAX: usize = 2;
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A service with buckets.
#[derive(Debug, Clone)]
pub enum Buckets {
    /// The folders of a directory stand for buckets.
    Directory(PathBuf),
    /// The buckets of a cloud, or of what speaks its protocol.
    Cloud(Scheme, Options),
}

/// Which cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// S3.
    S3,
    /// Google's.
    Gcs,
    /// Azure's.
    Azure,
}

impl Scheme {
    const ALL: [(&'static str, Self); 3] =
        [("s3://", Self::S3), ("gs://", Self::Gcs), ("az://", Self::Azure)];

    const fn begin(self) -> &'static str {
        match self {
            Self::S3 => "s3://",
            Self::Gcs => "gs://",
            Self::Azure => "az://",
        }
    }
}

/// The form of a URL that names no bucket.
enum Form<'u> {
    Directory(&'u Path),
    Cloud(Scheme, &'u str),
}

const RIGHT: &str = "write a directory, file:///.., s3://.., gs://.. or az://..";

fn form(url: &str) -> Result<Form<'_>, ObjectError> {
    if let Some((begin, scheme)) = Scheme::ALL.iter().find(|(begin, _)| url.starts_with(begin)) {
        return Ok(Form::Cloud(*scheme, &url[begin.len()..]));
    }
    match url.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(Form::Directory(Path::new(path))),
        None if !url.is_empty() && !url.contains("://") => Ok(Form::Directory(Path::new(url))),
        _ => Err(ObjectError::invalid("open", "", url, RIGHT)),
    }
}

/// What is wrong with the URL of a store, if something is; nobody is asked.
pub(super) fn problem(url: &str) -> Option<String> {
    match form(url) {
        Err(_wrong) => Some(format!("{url:?} is no place: {RIGHT}")),
        Ok(Form::Cloud(scheme, rest)) if rest.split('/').next().is_none_or(str::is_empty) => {
            let begin = scheme.begin();
            Some(format!("{url:?} names no bucket: write {begin}BUCKET or {begin}BUCKET/PREFIX"))
        }
        Ok(_) => None,
    }
}

pub(super) fn store(url: &str, options: &Options) -> Result<Store, ObjectError> {
    match form(url)? {
        Form::Directory(dir) => Store::in_directory(dir),
        Form::Cloud(scheme, rest) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            cloud(scheme, options, (bucket, prefix), None)
        }
    }
}

impl Buckets {
    /// The service at `url`: a directory, or a scheme alone, such as `s3://`.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] for a URL of another form.
    pub fn open(url: &str, options: &Options) -> Result<Self, ObjectError> {
        match form(url)? {
            Form::Directory(dir) => Ok(Self::Directory(dir.to_owned())),
            Form::Cloud(scheme, "") => Ok(Self::Cloud(scheme, options.clone())),
            Form::Cloud(..) => {
                let right = "requests name the buckets: write the scheme alone, as s3://";
                Err(ObjectError::invalid("open", "", url, right))
            }
        }
    }

    /// The bucket of this name. What is written there is encrypted with `kms_key`, where S3 is asked to.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] for a name that could be a path, for a folder that is not there, and for
    /// credentials that cannot be read. A cloud is not asked for anything yet.
    pub fn bucket(&self, name: &str, kms_key: Option<&str>) -> Result<Store, ObjectError> {
        match self {
            Self::Directory(dir) => {
                let is_plain = !name.is_empty()
                    && !matches!(name, "." | "..")
                    && !name.contains(['/', '\\', '\0']);
                if !is_plain {
                    let right = "a bucket is named by one word";
                    return Err(ObjectError::invalid("open", "", name, right));
                }
                let folder = dir.join(name);
                if !folder.is_dir() {
                    return Err(ObjectError::no_bucket(name));
                }
                let above = Folder::new(dir)
                    .map_err(|source| ObjectError::new("open", "", name, source))?;
                if !above.holds(name) {
                    return Err(ObjectError::outside("open", "", name));
                }
                Store::in_directory_as(&folder, name.to_owned())
            }
            Self::Cloud(scheme, options) => cloud(*scheme, options, (name, ""), kms_key),
        }
    }
}

fn cloud(
    scheme: Scheme,
    options: &Options,
    (bucket, prefix): (&str, &str),
    kms_key: Option<&str>,
) -> Result<Store, ObjectError> {
    let place = format!("{}{bucket}", scheme.begin());
    if bucket.is_empty() {
        return Err(ObjectError::invalid("open", &place, "", "the bucket's name is missing"));
    }
    let built = match scheme {
        Scheme::S3 => s3(options, bucket, kms_key)?,
        Scheme::Gcs => {
            let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
            let builder = builder.with_retry(retry()).with_http_connector(Connector::Tls);
            let client =
                builder.build().map_err(|source| ObjectError::of("open", &place, "", source))?;
            Faces::of(client, Asked::Whole)
        }
        Scheme::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket);
            if !options.access_key_id.is_empty() {
                builder = builder.with_account(&options.access_key_id);
            }
            if let Some(secret) = secret(options)? {
                builder = builder.with_access_key(secret);
            }
            if !options.endpoint.is_empty() {
                builder = builder.with_endpoint(options.endpoint.clone()).with_allow_http(true);
            }
            let builder =
                builder.with_retry(retry()).with_http_connector(connector(&options.endpoint));
            let client =
                builder.build().map_err(|source| ObjectError::of("open", &place, "", source))?;
            Faces::of(client, Asked::Short)
        }
    };
    let Faces { objects, pages, asked } = built;
    let prefix = Key::parse(prefix)
        .map_err(|source| ObjectError::of("open", &place, prefix, source.into()))?;
    let inner: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
        objects
    } else {
        Arc::new(PrefixStore::new(objects, prefix.clone()))
    };
    let pages = Some(Pages::new(pages, asked, &prefix));
    // A thread of its own: connections live on while nobody waits for an answer.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("object")
        .enable_all()
        .build()
        .map_err(|source| ObjectError::new("open", &place, "", source))?;
    let place = if prefix.as_ref().is_empty() { place } else { format!("{place}/{prefix}") };
    let (runtime, call_max) = (Arc::new(runtime), CALL_MAX);
    Ok(Store { inner, runtime, place, folder: None, pages, call_max })
}

/// One client of a cloud, by what is asked of it.
struct Faces {
    objects: Arc<dyn ObjectStore>,
    pages: Arc<dyn PaginatedListStore>,
    asked: Asked,
}

impl Faces {
    fn of<C: ObjectStore + PaginatedListStore>(client: C, asked: Asked) -> Self {
        let client = Arc::new(client);
        let objects = Arc::<C>::clone(&client);
        Self { objects, pages: client, asked }
    }
}

fn s3(options: &Options, bucket: &str, kms_key: Option<&str>) -> Result<Faces, ObjectError> {
    let place = format!("s3://{bucket}");
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
    let endpoint = match options.endpoint.as_str() {
        "" => std::env::var("AWS_ENDPOINT_URL").unwrap_or_default(),
        endpoint => endpoint.to_owned(),
    };
    if !endpoint.is_empty() {
        builder = builder.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint.clone());
    }
    if !options.region.is_empty() {
        builder = builder.with_region(&options.region);
    }
    if !options.access_key_id.is_empty() {
        builder = builder.with_access_key_id(&options.access_key_id);
    }
    if let Some(secret) = secret(options)? {
        builder = builder.with_secret_access_key(secret);
    }
    if let Some(key) = kms_key {
        builder = builder.with_sse_kms_encryption(key);
    }
    let built = builder.with_http_connector(connector(&endpoint)).build();
    let client = built.map_err(|source| ObjectError::of("open", &place, "", source))?;
    Ok(Faces::of(client, Asked::Whole))
}

/// The secret of the access key, where the settings name one.
fn secret(options: &Options) -> Result<Option<String>, ObjectError> {
    let file = &options.secret_access_key_file;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = std::fs::read_to_string(file);
    let failed = |source| ObjectError::new(READ_SECRET, "", &file.display().to_string(), source);
    read.map(|secret| Some(secret.trim().to_owned())).map_err(failed)
}

fn connector(endpoint: &str) -> Connector {
    if endpoint.starts_with("http://") { Connector::Plain } else { Connector::Tls }
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_MAX, ..RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::super::Trouble;
    use super::*;

    fn trouble<T>(result: Result<T, ObjectError>) -> Option<Trouble> {
        result.err().map(|error| error.trouble())
    }

    #[test]
    fn urls_name_directories_and_clouds_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().display().to_string();
        let options = Options::default();
        for url in [path.clone(), format!("file://{path}/new")] {
            Store::open(&url, &options).unwrap().put("a.txt", b"1".to_vec()).unwrap();
        }
        assert!(dir.path().join("new/a.txt").is_file());
        for url in ["", "file://host/x", "ftp://x", "s3://", "s3:///x"] {
            assert_eq!(trouble(Store::open(url, &options)), Some(Trouble::Invalid), "{url:?}");
        }
        assert_eq!(trouble(Buckets::open("s3://bucket", &options)), Some(Trouble::Invalid));
        let http = Options { endpoint: "http://127.0.0.1:1".to_owned(), ..Options::default() };
        assert_eq!(Store::open("s3://b/p/q", &http).unwrap().place(), "s3://b/p/q");
    }

    #[test]
    fn no_bucket_and_no_key_leaves_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("buckets/mine")).unwrap();
        std::fs::write(dir.path().join("secret"), b"").unwrap();
        let url = dir.path().join("buckets").display().to_string();
        let buckets = Buckets::open(&url, &Options::default()).unwrap();
        for name in ["", ".", "..", "../buckets", "/etc", "mine/../..", "a\\b"] {
            assert_eq!(trouble(buckets.bucket(name, None)), Some(Trouble::Invalid), "{name:?}");
        }
        assert_eq!(trouble(buckets.bucket("other", None)), Some(Trouble::NotFound));
        let mine = buckets.bucket("mine", None).unwrap();
        for key in ["../secret", "../../secret", "a/../../secret", "a//b", "./a"] {
            assert_eq!(trouble(mine.put(key, Vec::new())), Some(Trouble::Invalid), "{key:?}");
            assert_eq!(trouble(mine.get(key)), Some(Trouble::Invalid), "{key:?}");
        }
        assert_eq!(trouble(mine.objects("../", 1)), Some(Trouble::Invalid));
        assert_eq!(trouble(mine.get("absent")), Some(Trouble::NotFound));
    }

    #[test]
    fn a_prefix_need_not_end_at_a_slash_and_a_changed_object_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::in_directory(dir.path()).unwrap();
        for key in ["a/part-2", "a/part-1", "a/other", "b/part-1", "part-1"] {
            store.put(key, b"0123456789".to_vec()).unwrap();
        }
        let keys = |prefix: &str| -> Vec<String> {
            store.objects(prefix, 100).unwrap().into_iter().map(|object| object.key).collect()
        };
        assert_eq!(keys("a/part"), ["a/part-1", "a/part-2"]);
        assert_eq!(keys("a/part-1"), ["a/part-1"]);
        assert_eq!(keys("a/"), ["a/other", "a/part-1", "a/part-2"]);
        assert_eq!(keys(""), ["a/other", "a/part-1", "a/part-2", "b/part-1", "part-1"]);
        assert_eq!(store.objects("", 2).unwrap().len(), 3, "one more tells that there are more");
        let object = store.objects("part-1", 1).unwrap().remove(0);
        assert_eq!(&store.get_range(&object, 2..5).unwrap()[..], b"234");
        store.put("part-1", b"9876543210".to_vec()).unwrap();
        assert_eq!(trouble(store.get_range(&object, 2..5)), Some(Trouble::Changed));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let wrong = Options {
            endpoint: "127.0.0.1:9000".to_owned(),
            secret_access_key_file: "s".into(),
            ..Options::default()
        };
        assert_eq!(wrong.problems().len(), 2);
        assert!(Options::default().problems().is_empty());
    }
}
