//! One request: route, authenticate, plan, read the body, run, reply.

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONNECTION, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use prometheus::IntCounter;
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
use crate::metrics::Metrics;

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
    answered: Answered,
}

/// The counters of what succeeds, with their labels looked up once, since a look-up takes a lock.
#[derive(Debug, Default)]
struct Answered([[OnceLock<IntCounter>; 2]; Endpoint::COUNT]);

impl Answered {
    fn count(&self, metrics: &Metrics, endpoint: Option<Endpoint>, status: StatusCode) {
        let label = endpoint.map_or(route::NOWHERE, Endpoint::label);
        let counter = || metrics.http_requests.with_label_values(&[label, status.as_str()]);
        let at = match status {
            StatusCode::OK => 0,
            StatusCode::NO_CONTENT => 1,
            _ => return counter().inc(),
        };
        match endpoint {
            Some(endpoint) => self.0[endpoint as usize][at].get_or_init(counter).inc(),
            None => counter().inc(),
        }
    }
}

/// What ends when a reply's body has been sent: the request.
#[derive(Debug)]
pub struct End(Phase);

impl Drop for End {
    fn drop(&mut self) {
        self.0.idle();
    }
}

impl Service {
    /// A service of `app` within `options` for those that `keyring` knows.
    pub fn new(app: Arc<App>, options: Options, keyring: Keyring) -> Self {
        Self { app, options, keyring, ids: RequestIds::new(), answered: Answered::default() }
    }

    /// Answers one request of the connection that is in `phase`.
    pub async fn answer(
        &self,
        head: &Parts,
        body: Incoming,
        phase: Phase,
    ) -> Response<Outgoing<End>> {
        phase.request();
        if !body.is_end_stream() {
            phase.body_begun();
        }
        let metrics = &self.app.metrics;
        let end = End(phase);
        let started = self.app.clock.monotonic();
        let id = self.ids.of(&head.headers);
        let family = route::family_of(&head.method, head.uri.path());
        let way = route::find(&head.method, head.uri.path());
        let endpoint = way.as_ref().ok().map(|way| way.endpoint);
        let label = endpoint.map_or(route::NOWHERE, Endpoint::label);
        let result = match way {
            Ok(way) => self.run(&end.0, way, head, body).await,
            Err(fault) => {
                Box::pin(body::discard((&self.options, &end.0), &head.headers, body)).await;
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
        // Else its client sends the next request into a connection that ends.
        let reply = if end.0.is_unread() {
            reply.with(CONNECTION, HeaderValue::from_static("close"))
        } else {
            reply
        };
        debug!(endpoint = label, request_id = ?id, status = reply.status.as_u16(), "answered");
        self.answered.count(metrics, endpoint, reply.status);
        metrics.http_request_duration.record(self.app.clock.monotonic().saturating_sub(started));
        reply::response(reply, id, end)
    }

    /// Boxes all but what most requests do: a request has room for the largest of what it may become.
    async fn run(
        &self,
        phase: &Phase,
        way: Way,
        head: &Parts,
        body: Incoming,
    ) -> Result<Reply, Fault> {
        let (work, call) = match self.plan(way, head) {
            Ok(planned) => planned,
            Err(fault) => {
                let watched = (&self.options, phase);
                if fault.kind == Kind::Unauthorized {
                    Box::pin(body::discard_of_stranger(watched, &head.headers, body)).await;
                } else {
                    Box::pin(body::discard(watched, &head.headers, body)).await;
                }
                return Err(fault);
            }
        };
        match work {
            Work::Write(plan) => {
                let read = body::read(&self.app, (&self.options, phase), &head.headers, body);
                let body = Box::pin(read).await?;
                let mut written = Box::pin(write::run(&self.app, &call.caller, &plan, body));
                self.in_time(phase, written.as_mut()).await
            }
            other => Box::pin(self.run_other(phase, other, call, head, body)).await,
        }
    }

    async fn run_other(
        &self,
        phase: &Phase,
        work: Work,
        call: Call<'_>,
        head: &Parts,
        body: Incoming,
    ) -> Result<Reply, Fault> {
        match work {
            Work::Write(_) => unreachable!("it was run"),
            Work::Timestream(operation, proof) => {
                let proved = self.proved(phase, (head, body), *proof, timestream::SERVICE).await?;
                Ok(match proved {
                    Ok((caller, body)) => {
                        self.timestream(phase, operation, head, caller, body).await
                    }
                    Err(exception) => exception.reply(),
                })
            }
            Work::DataZone(proof) => {
                let proved = self.proved(phase, (head, body), *proof, datazone::SERVICE).await?;
                Ok(match proved {
                    Ok((caller, body)) => {
                        self.datazone(phase, head, call.params, caller, body).await
                    }
                    Err(exception) => datazone::exception::reply(&exception),
                })
            }
            Work::Query => {
                let form = self.read(phase, head, body).await?;
                influxql::answer(&self.app, &call, Intent::of(&head.method), &form.bytes)
            }
            Work::Rejects(asked) => {
                body::discard((&self.options, phase), &head.headers, body).await;
                let answer = pin!(rejects::answer(&self.app, &call.caller, *asked));
                self.in_time(phase, answer).await
            }
            Work::Resubmit => {
                let body = self.read(phase, head, body).await?;
                let (app, caller) = (Arc::clone(&self.app), Arc::clone(&call.caller));
                let longest = self.options.request_timeout.0;
                let answer = pin!(rejects::resubmit::answer(app, caller, body, longest));
                self.in_time(phase, answer).await
            }
            Work::Answered(reply) => {
                body::discard((&self.options, phase), &head.headers, body).await;
                Ok(*reply)
            }
        }
    }

    async fn read(&self, phase: &Phase, head: &Parts, body: Incoming) -> Result<Body, Fault> {
        body::read(&self.app, (&self.options, phase), &head.headers, body).await
    }

    /// Reads the body, and finds who has signed it.
    async fn proved(
        &self,
        phase: &Phase,
        (head, body): (&Parts, Incoming),
        proof: Proof,
        service: &str,
    ) -> Result<Result<(Arc<Caller>, Body), Exception>, Fault> {
        let (app, options) = (&self.app, (&self.options, phase));
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
        phase: &Phase,
        operation: timestream::Operation,
        head: &Parts,
        caller: Arc<Caller>,
        body: Body,
    ) -> Reply {
        let request = timestream::Request::new(operation, &head.headers, caller, body);
        let timeout = self.options.request_timeout.0;
        let answer = pin!(timestream::answer(&self.app, request));
        let answer = phase.within(timeout, answer).await;
        answer.unwrap_or_else(|| too_late(timeout).reply(Family::Timestream))
    }

    async fn datazone(
        &self,
        phase: &Phase,
        head: &Parts,
        params: Params,
        caller: Arc<Caller>,
        body: Body,
    ) -> Reply {
        let (method, path) = (&head.method, head.uri.path());
        let request = datazone::Request::new(method, path, params, caller, body);
        let timeout = self.options.request_timeout.0;
        let answer = pin!(datazone::answer(&self.app, request));
        let answer = phase.within(timeout, answer).await;
        answer.unwrap_or_else(|| too_late(timeout).reply(Family::DataZone))
    }

    /// What `answer` gives, or that it took too long.
    async fn in_time(
        &self,
        phase: &Phase,
        answer: Pin<&mut impl Future<Output = Result<Reply, Fault>>>,
    ) -> Result<Reply, Fault> {
        let timeout = self.options.request_timeout.0;
        phase.within(timeout, answer).await.unwrap_or_else(|| Err(too_late(timeout)))
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
            Endpoint::WriteV1 => Work::Write(Box::new(influx::plan_v1(call)?)),
            Endpoint::WriteV2 => Work::Write(Box::new(influx::plan_v2(call)?)),
            Endpoint::WriteV3 => Work::Write(Box::new(influx::plan_v3(call)?)),
            Endpoint::WriteNative => Work::Write(Box::new(native::plan(call)?)),
            Endpoint::Timestream => {
                let operation = timestream::Operation::of(call.headers);
                let proof = || self.keyring.claim(call.headers, &call.params);
                match operation.and_then(|operation| Ok((operation, proof()?))) {
                    Ok((operation, proof)) => Work::Timestream(operation, Box::new(proof)),
                    Err(exception) => answered(exception.reply()),
                }
            }
            Endpoint::DataZone => match self.keyring.claim(call.headers, &call.params) {
                Ok(proof) => Work::DataZone(Box::new(proof)),
                Err(exception) => answered(datazone::exception::reply(&exception)),
            },
            Endpoint::Query => Work::Query,
            Endpoint::Rejects => Work::Rejects(Box::new(rejects::plan(call, path)?)),
            Endpoint::Resubmit => {
                rejects::resubmit::plan(call)?;
                Work::Resubmit
            }
            Endpoint::Export => answered(export::answer(app, call)?),
            Endpoint::Ping => answered(ops::ping(call)?),
            Endpoint::Health => answered(ops::health(app)),
            Endpoint::Ready => answered(ops::ready(app)),
            Endpoint::Metrics => answered(ops::metrics(app)?),
            Endpoint::Status => answered(status::answer(app, call)?),
            Endpoint::Index => answered(ops::index(call)),
            Endpoint::Options => {
                let allow = HeaderValue::from_static(way.allow);
                answered(Reply::empty(StatusCode::NO_CONTENT).with(ALLOW, allow))
            }
        })
    }
}

fn answered(reply: Reply) -> Work {
    Work::Answered(Box::new(reply))
}

fn too_late(timeout: Duration) -> Fault {
    let message = format!(
        "not answered within {} s: whether the request is stored is unknown, send it again",
        timeout.as_secs()
    );
    Fault::new(Kind::Busy { retry_after: RETRY_AFTER }, message)
}

/// What is left to do once a request's head was read. Small, since each request has room for it twice.
enum Work {
    /// Nothing.
    Answered(Box<Reply>),
    /// Take the body as records.
    Write(Box<Plan>),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each request takes its state from the allocator, whose quick pieces end at 1,032 bytes, and writes
    /// into what it gets.
    #[test]
    fn the_state_of_a_request_is_small() {
        fn state_bytes<'a, F: Future + 'a>(
            _answer: impl FnOnce(&'a Service, &'a Parts, Incoming, Phase) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let bytes = state_bytes(Service::answer);
        assert!(bytes + size_of::<Parts>() <= 1032, "{bytes}");
    }
}
