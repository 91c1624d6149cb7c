//! The HTTP client of the object stores: hyper, with rustls where the server asks for it. The crate's
//! own would bring reqwest and a second library of TLS.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector as Tcp};
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};

use super::listing;

/// Longest wait for a connection, and for the head of an answer.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Makes clients.
#[derive(Debug, Clone, Copy)]
pub(super) enum Connector {
    /// Without TLS: the endpoint is `http://`.
    Plain,
    /// With the certificates that the system trusts.
    Tls,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.set_connect_timeout(Some(CONNECT_MAX));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        match self {
            Self::Plain => Ok(client(tcp)),
            Self::Tls => Ok(client(with_tls(tcp)?)),
        }
    }
}

fn with_tls(tcp: Tcp) -> object_store::Result<HttpsConnector<Tcp>> {
    let builder = HttpsConnectorBuilder::new().with_native_roots();
    let builder = builder.map_err(|source| object_store::Error::Generic {
        store: "the system's certificates",
        source: Box::new(source),
    })?;
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

fn client<C>(connector: C) -> HttpClient
where
    C: Connect + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    HttpClient::new(Service(Client::builder(TokioExecutor::new()).build(connector)))
}

#[derive(Debug)]
struct Service<C>(Client<C, HttpRequestBody>);

#[async_trait::async_trait]
impl<C> HttpService for Service<C>
where
    C: Connect + Clone + std::fmt::Debug + Send + Sync + 'static,
{
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_get = request.method().as_str() == "GET";
        let keys = request.uri().query().filter(|_| is_get).and_then(listing::element);
        let answered = tokio::time::timeout(HEAD_MAX, self.0.request(request)).await;
        let response = match answered {
            Err(silent) => return Err(HttpError::new(HttpErrorKind::Timeout, silent)),
            Ok(Err(error)) => return Err(broken(error)),
            Ok(Ok(response)) => response,
        };
        let (mut parts, body) = response.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        if let Some(keys) = keys.filter(|_| parts.status.is_success()) {
            let whole = listing::readable(body.collect().await?.to_bytes(), keys);
            parts.headers.remove("content-length");
            return Ok(HttpResponse::from_parts(parts, whole.into()));
        }
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}

fn broken(error: hyper_util::client::legacy::Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.source().is_some_and(<dyn Error>::is::<hyper::Error>) {
        HttpErrorKind::Request
    } else {
        HttpErrorKind::Unknown
    };
    HttpError::new(kind, error)
}
