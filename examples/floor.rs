//! What does a request cost before anything of a gateway is done with it?
//!
//! `cargo run --release --example floor -- drop|log ADDRESS FOLDER`: a hyper server that reads a body and
//! answers 204 (`drop`), or appends it to a log in the folder and answers when it is synced (`log`). No grammar, no
//! records, no table; the log only grows. `tidegate load --url http://ADDRESS --batch 1 --connections 64 --pid PID` sends it load.
//!
//! The processors of a shared machine change by the hour: what the gateway takes compares with this in the same
//! hour.

#![expect(clippy::unwrap_used, reason = "an example that cannot go on ends")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tidegate::base::clock::SystemClock;
use tidegate::base::poison::Poison;
use tidegate::wal::{Durability, Options, Unobserved, Wal};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

fn main() {
    let argument = |at| std::env::args().nth(at).unwrap();
    let (what, address, folder) = (argument(1), argument(2), argument(3));
    let wal = (what == "log").then(|| opened(Path::new(&folder)));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(serve(&address, wal));
}

fn opened(folder: &Path) -> Wal {
    let options = Options { dir: folder.to_owned(), ..Options::default() };
    Wal::open(&options, SystemClock::shared(), Poison::new(), Arc::new(Unobserved)).unwrap()
}

async fn serve(address: &str, wal: Option<Wal>) {
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (stream, _peer) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let wal = wal.clone();
        let service = service_fn(move |request| answer(request, wal.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client that breaks off is its own affair.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(
    request: Request<Incoming>,
    wal: Option<Wal>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_write = request.method() == hyper::Method::POST;
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if let Some(wal) = wal.filter(|_| is_write) {
        let (done, synced) = oneshot::channel();
        let tell = move |result| drop(done.send(result));
        wal.append(&body, Durability::Sync, Box::new(tell)).unwrap();
        synced.await.unwrap().unwrap();
    }
    let status = if is_write { 204 } else { 200 };
    Ok(Response::builder().status(status).body(Full::default()).unwrap())
}
