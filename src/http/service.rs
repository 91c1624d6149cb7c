//! One request: route, authenticate, plan, read the body, run, reply.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use prometheus::IntGauge;
use tracing::{debug, error};

use super::auth::sigv4::BodyDigest;
use super::auth::{Keyring, Proof};
use super::body;
use super::guard::Phase;
use super::options::Options;
use super::reply::{self, Outgoing, RequestIds, X_AMZN_REQUESTID};
use super::route::{self, Access, Endpoint, Way};
use crate::api::call::{Body, Call, Caller};
use crate::api::fault::{Family, Fault, Kind};
use crate::api::influxql::Intent;
use crate::api::params::Params;
use crate::api::reply::Reply;
use crate::api::timestream::exception::Exception;
use crate::api::write::{self, Plan};
use crate::api::{
    App, datazone, export, influx, influxql, native, ops, rejects, status, timestream,
};

/// When to send a request again that took too long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Debug)]
pub struct Service {
    /// What the endpoints stand on.
    pub app: Arc<App>,
    /// The limits.
    pub options: Options,
    /// Who may do what.
    pub keyring: Keyring,
    ids: RequestIds,
}

/// What ends when a reply's body has been sent: the request.
#[derive(Debug)]
pub struct End {
    phase: Phase,
    in_flight: IntGauge,
}

impl Drop for End {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.phase.idle();
    }
}

impl Service {
    /// A service of `app` within `options` for those that `keyring` knows.
    pub fn new(app: Arc<App>, options: Options, keyring: Keyring) -> Self {
        Self { app, options, keyring, ids: RequestIds::new() }
    }

    /// Answers one request of the connection that is in `phase`.
    pub async fn answer(
        &self,
        request: Request<Incoming>,
        phase: Phase,
    ) -> Response<Outgoing<End>> {
        phase.request();
        let metrics = &self.app.metrics;
        let end = End { phase, in_flight: metrics.http_in_flight.clone() };
        end.in_flight.inc();
        let started = self.app.clock.monotonic();
        let (head, body) = request.into_parts();
        let id = self.ids.of(&head.headers);
        let family = route::family_of(&head.method, head.uri.path());
        let way = route::find(&head.method, head.uri.path());
        let label = way.as_ref().map_or(route::NOWHERE, |way| way.endpoint.label());
        let result = match way {
            Ok(way) => self.run(way, head, body).await,
            Err(fault) => {
                body::discard(&self.options, &head.headers, body).await;
                Err(fault)
            }
        };
        let reply = result.unwrap_or_else(|fault| {
            if fault.status() == StatusCode::INTERNAL_SERVER_ERROR {
                error!(endpoint = label, request_id = ?id, fault = fault.message, "request failed");
            }
            fault.reply(family)
        });
        let reply = match family {
            Family::Timestream | Family::DataZone => reply.with(X_AMZN_REQUESTID, self.ids.amzn()),
            _ => reply,
        };
        debug!(endpoint = label, request_id = ?id, status = reply.status.as_u16(), "answered");
        metrics.http_requests.with_label_values(&[label, reply.status.as_str()]).inc();
        metrics.http_request_duration.record(self.app.clock.monotonic().saturating_sub(started));
        reply::response(reply, id, end)
    }

    async fn run(&self, way: Way, head: Parts, body: Incoming) -> Result<Reply, Fault> {
        let (work, call) = match self.plan(way, &head) {
            Ok(planned) => planned,
            Err(fault) => {
                // Whoever is not known shall not make us read.
                if fault.kind != Kind::Unauthorized {
                    body::discard(&self.options, &head.headers, body).await;
                }
                return Err(fault);
            }
        };
        match work {
            Work::Write(plan) => {
                let body = self.read(&head, body).await?;
                self.write(&plan, &call.caller, body).await
            }
            Work::Timestream(operation, proof) => {
                let proved = self.proved(&head, body, *proof, timestream::SERVICE).await?;
                Ok(match proved {
                    Ok((caller, body)) => self.timestream(operation, &head, caller, body).await,
                    Err(exception) => exception.reply(),
                })
            }
            Work::DataZone(proof) => {
                let proved = self.proved(&head, body, *proof, datazone::SERVICE).await?;
                Ok(match proved {
                    Ok((caller, body)) => self.datazone(&head, call.params, caller, body).await,
                    Err(exception) => datazone::exception::reply(&exception),
                })
            }
            Work::Query => {
                let form = self.read(&head, body).await?;
                influxql::answer(&self.app, &call, Intent::of(&head.method), &form.bytes)
            }
            Work::Rejects(asked) => {
                body::discard(&self.options, &head.headers, body).await;
                self.in_time(rejects::answer(&self.app, &call.caller, *asked)).await
            }
            Work::Resubmit => {
                let body = self.read(&head, body).await?;
                self.in_time(rejects::resubmit::answer(&self.app, &call.caller, &body)).await
            }
            Work::Answered(reply) => {
                body::discard(&self.options, &head.headers, body).await;
                Ok(reply)
            }
        }
    }

    async fn read(&self, head: &Parts, body: Incoming) -> Result<Body, Fault> {
        body::read(&self.app, &self.options, &head.headers, body).await
    }

    /// Reads the body, and finds who has signed it.
    async fn proved(
        &self,
        head: &Parts,
        body: Incoming,
        proof: Proof,
        service: &str,
    ) -> Result<Result<(Arc<Caller>, Body), Exception>, Fault> {
        let (app, options) = (&self.app, &self.options);
        let (body, digest) = if proof.is_signed() {
            body::read_digested(app, options, &head.headers, body).await?
        } else {
            (body::read(app, options, &head.headers, body).await?, BodyDigest::default())
        };
        let caller = proof.caller(head, &digest, service, app.clock.wall_ns());
        Ok(caller.map(|caller| (caller, body)))
    }

    async fn timestream(
        &self,
        operation: timestream::Operation,
        head: &Parts,
        caller: Arc<Caller>,
        body: Body,
    ) -> Reply {
        let request = timestream::Request::new(operation, &head.headers, caller, body);
        let timeout = self.options.request_timeout.0;
        let answer = tokio::time::timeout(timeout, timestream::answer(&self.app, request)).await;
        answer.unwrap_or_else(|_elapsed| too_late(timeout).reply(Family::Timestream))
    }

    async fn datazone(
        &self,
        head: &Parts,
        params: Params,
        caller: Arc<Caller>,
        body: Body,
    ) -> Reply {
        let (method, path) = (&head.method, head.uri.path());
        let request = datazone::Request::new(method, path, params, caller, body);
        let timeout = self.options.request_timeout.0;
        let answer = tokio::time::timeout(timeout, datazone::answer(&self.app, request)).await;
        answer.unwrap_or_else(|_elapsed| too_late(timeout).reply(Family::DataZone))
    }

    async fn write(&self, plan: &Plan, caller: &Arc<Caller>, body: Body) -> Result<Reply, Fault> {
        self.in_time(write::run(&self.app, caller, plan, body)).await
    }

    /// What `answer` gives, or that it took too long.
    async fn in_time(
        &self,
        answer: impl Future<Output = Result<Reply, Fault>>,
    ) -> Result<Reply, Fault> {
        let timeout = self.options.request_timeout.0;
        let answered = tokio::time::timeout(timeout, answer).await;
        answered.unwrap_or_else(|_elapsed| Err(too_late(timeout)))
    }

    /// What is to be done, found without the body.
    fn plan<'h>(&self, way: Way, head: &'h Parts) -> Result<(Work, Call<'h>), Fault> {
        let params = Params::parse(head.uri.query().unwrap_or_default())?;
        let access = match way.endpoint {
            Endpoint::Metrics if !self.keyring.metrics_are_open() => Access::Known,
            endpoint => endpoint.access(),
        };
        let caller = match access {
            Access::Open => Arc::new(Caller::anonymous()),
            // Until the body was read.
            Access::Signed => Arc::new(Caller::nobody()),
            Access::Known => {
                let family = route::family_of(&head.method, head.uri.path());
                self.keyring.identify(&head.headers, &params, family)?
            }
        };
        let call = Call { params, headers: &head.headers, caller };
        Ok((self.work(way, head.uri.path(), &call)?, call))
    }

    fn work(&self, way: Way, path: &str, call: &Call<'_>) -> Result<Work, Fault> {
        let app = &*self.app;
        Ok(match way.endpoint {
            Endpoint::WriteV1 => Work::Write(influx::plan_v1(call)?),
            Endpoint::WriteV2 => Work::Write(influx::plan_v2(call)?),
            Endpoint::WriteV3 => Work::Write(influx::plan_v3(call)?),
            Endpoint::WriteNative => Work::Write(native::plan(call)?),
            Endpoint::Timestream => {
                let operation = timestream::Operation::of(call.headers);
                let proof = || self.keyring.claim(call.headers, &call.params);
                match operation.and_then(|operation| Ok((operation, proof()?))) {
                    Ok((operation, proof)) => Work::Timestream(operation, Box::new(proof)),
                    Err(exception) => Work::Answered(exception.reply()),
                }
            }
            Endpoint::DataZone => match self.keyring.claim(call.headers, &call.params) {
                Ok(proof) => Work::DataZone(Box::new(proof)),
                Err(exception) => Work::Answered(datazone::exception::reply(&exception)),
            },
            Endpoint::Query => Work::Query,
            Endpoint::Rejects => Work::Rejects(Box::new(rejects::plan(call, path)?)),
            Endpoint::Resubmit => Work::Resubmit,
            Endpoint::Export => Work::Answered(export::answer(app, call)?),
            Endpoint::Ping => Work::Answered(ops::ping(call)?),
            Endpoint::Health => Work::Answered(ops::health(app)),
            Endpoint::Ready => Work::Answered(ops::ready(app)),
            Endpoint::Metrics => Work::Answered(ops::metrics(app)?),
            Endpoint::Status => Work::Answered(status::answer(app)),
            Endpoint::Index => Work::Answered(ops::index(call)),
            Endpoint::Options => {
                let allow = HeaderValue::from_static(way.allow);
                Work::Answered(Reply::empty(StatusCode::NO_CONTENT).with(ALLOW, allow))
            }
        })
    }
}

fn too_late(timeout: Duration) -> Fault {
    let message = format!(
        "not answered within {} s: whether the request is stored is unknown, send it again",
        timeout.as_secs()
    );
    Fault::new(Kind::Busy { retry_after: RETRY_AFTER }, message)
}

/// What is left to do once a request's head was read.
enum Work {
    /// Nothing.
    Answered(Reply),
    /// Take the body as records.
    Write(Plan),
    /// Take the body as the input of an operation.
    Timestream(timestream::Operation, Box<Proof>),
    /// Take the body as the input of the operation that method and path name.
    DataZone(Box<Proof>),
    /// Look into the reject sink.
    Rejects(Box<rejects::Asked>),
    /// Take the body as what to send again.
    Resubmit,
    /// Look for a query in the body, if there is none in the head.
    Query,
}
