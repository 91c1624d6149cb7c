//! The prepare thread: has the next segment ready before it is needed.
//!
//! A retired file is used again: only its header is written, since its stale frames fail under the
//! new number and generation. Otherwise a file is made: blocks for all of it, zeros into all of it,
//! and only then its name. A full disk shows when the blocks are asked for; the log then answers
//! "full" and the thread asks again, every second and whenever a segment is retired. Before that,
//! segments that are only kept give way. The thread also retires those whose time is over.
//!
//! | step of recycling | a crash after it finds |
//! |---|---|
//! | rename to `.tmp`, sync names | a leftover, which is removed |
//! | header of a spare, sync | the same |
//! | rename to the new number, sync names | a spare |

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tracing::{error, warn};

use super::disk::{Disk, DiskFile};
use super::reclaim::{GivenUp, Plan};
use super::segment::{self, Header, Segment};
use super::{FullCause, Log};
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;

/// How often the thread asks again for space that was refused.
const RETRY: Duration = Duration::from_secs(1);

/// Longest time until the thread looks again for kept segments whose time is over: the wall clock may
/// have been set meanwhile.
const EXPIRY_LOOK: Duration = Duration::from_hours(1);

/// The thread.
pub(super) fn run(log: &Log) {
    // Without the thread the log would answer "full" for ever, and nothing would say why.
    let _panic = log.poison.on_panic("the prepare thread panicked");
    loop {
        let failed = !step(log);
        let stock = super::locked(&log.stock);
        if stock.closed {
            return;
        }
        // What is retired or taken between the step and this wait is noticed by the next retry at
        // the latest; a taken segment cannot be missed, since the step is repeated when it helped.
        match (failed, stock.wants_next()) {
            (false, true) => {}
            (false, false) => match stock.expires_in(log.clock.wall_ns()) {
                None => drop(super::waited(log.wanted.wait(stock))),
                Some(rest) => {
                    let rest = rest.clamp(RETRY, EXPIRY_LOOK);
                    drop(super::waited(log.wanted.wait_timeout(stock, rest)));
                }
            },
            (true, _) => drop(super::waited(log.wanted.wait_timeout(stock, RETRY))),
        }
    }
}

/// Makes the next segment if there is none. `false` when there is no room for one.
pub(super) fn step(log: &Log) -> bool {
    if log.poison.is_thrown() {
        return false;
    }
    let now_ns = log.clock.wall_ns();
    let mut stock = super::locked(&log.stock);
    stock.expire(now_ns);
    let (plan, surplus) = (stock.plan(), stock.take_surplus());
    drop(stock);
    log.remove(&surplus);
    match plan {
        Plan::Rest => true,
        Plan::Full => false,
        Plan::Remove(odd) => {
            log.remove(&[odd]);
            true
        }
        Plan::Recycle(retired, number) => {
            let old = retired.number();
            // The last holder: the map goes, so that nothing sees the file change.
            drop(retired);
            match recycle(log, old, number) {
                Ok(segment) => {
                    super::locked(&log.stock).offer(segment);
                    true
                }
                Err(error) => {
                    // Nothing counts it any more; what it holds is stored elsewhere.
                    discard(log, &segment::name(old));
                    failed(log, number, &error)
                }
            }
        }
        Plan::Create(number) => match allocate(log, number) {
            Ok((file, header)) => finish(log, file, header),
            Err(error) => failed(log, number, &error),
        },
    }
}

/// No segment was made under `number`. Without space the log is full until there is some; anything
/// else is a fault of the disk.
fn failed(log: &Log, number: u64, error: &io::Error) -> bool {
    discard(log, &temporary(number));
    let mut stock = super::locked(&log.stock);
    let news = stock.give_back(number, FullCause::Disk);
    let given_up = if is_space(error) { stock.give_way() } else { None };
    drop(stock);
    match given_up {
        // Writes come first; the thread asks again at once.
        Some(GivenUp::Retired) => return true,
        Some(GivenUp::Remove(odd)) => {
            log.remove(&[odd]);
            return true;
        }
        None => {}
    }
    if !is_shortage(error) {
        poison(log, number, error);
    } else if news {
        warn!(segment = number, %error, "no room for another segment; asking again until there is");
    }
    false
}

/// Removes a file that is no segment of the log, if it is there.
fn discard(log: &Log, name: &str) {
    if let Err(error) = log.disk.remove(name)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(file = name, %error, "a file that is not needed could not be removed");
    }
}

/// Whether waiting helps.
fn is_shortage(error: &io::Error) -> bool {
    is_space(error) || is_one_of(error, &[Errno::MFILE, Errno::NFILE, Errno::NOMEM])
}

/// Whether it is the disk's space that is short, so that a file that is there already would do.
fn is_space(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull || is_one_of(error, &[Errno::NOSPC, Errno::DQUOT])
}

fn is_one_of(error: &io::Error, errnos: &[Errno]) -> bool {
    errnos.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn poison(log: &Log, number: u64, error: &io::Error) {
    let path = log.disk.path(&segment::name(number));
    let reason = format!("cannot make {}: {error}", path.display());
    if log.poison.throw(reason.clone()) {
        error!(reason, "the log is poisoned; it takes nothing more");
    }
}

fn recycle(log: &Log, old: u64, number: u64) -> io::Result<Arc<Segment>> {
    let temporary = temporary(number);
    log.disk.publish(&segment::name(old), &temporary)?;
    let file = log.disk.open(&temporary)?;
    let header = spare(log, number);
    assert_eq!(file.bytes()?, header.bytes, "a file is used again at its own size");
    publish(&log.disk, file.as_ref(), &header)?;
    Ok(Arc::new(Segment::ready(&log.disk, header, file)))
}

/// Makes a segment from nothing, at once: for the start of a log.
pub(super) fn create(disk: &Arc<dyn Disk>, header: Header) -> io::Result<Segment> {
    let file = disk.create(&temporary(header.number))?;
    let made = file.allocate(header.bytes).and_then(|()| {
        segment::fill_with_zeros(file.as_ref(), header.bytes)?;
        publish(disk, file.as_ref(), &header)
    });
    if let Err(error) = made {
        // A failed allocation may have got a part of the space; whoever is short of it needs it back.
        // The failure itself says more than a failed removal could.
        disk.remove(&temporary(header.number)).ok();
        return Err(error);
    }
    Ok(Segment::ready(disk, header, file))
}

fn allocate(log: &Log, number: u64) -> io::Result<(Box<dyn DiskFile>, Header)> {
    let header = spare(log, number);
    let file = log.disk.create(&temporary(number))?;
    file.allocate(header.bytes)?;
    Ok((file, header))
}

/// Fills and names a file that has its blocks. It is offered to the appender before that: frames may
/// gather for it, and the commit thread waits until it is done. `false` when it failed.
fn finish(log: &Log, file: Box<dyn DiskFile>, header: Header) -> bool {
    let segment = Arc::new(Segment::underway(&log.disk, header, file));
    super::locked(&log.stock).offer(Arc::clone(&segment));
    let _panic = FailOnPanic { log, segment: &segment };
    let file = segment.file();
    let made = segment::fill_with_zeros(file, header.bytes)
        .and_then(|()| publish(&log.disk, file, &header));
    let Err(error) = made else {
        segment.set_made();
        return true;
    };
    let unused = super::locked(&log.stock).withdraw(&segment);
    if unused {
        segment.set_failed();
        return failed(log, header.number, &error);
    }
    // Frames were given a place in it. The poison first, so that none of them is acknowledged.
    poison(log, header.number, &error);
    segment.set_failed();
    false
}

/// Ends the wait for a segment whose making panicked.
struct FailOnPanic<'a> {
    log: &'a Log,
    segment: &'a Segment,
}

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.log.poison.throw("the prepare thread panicked");
            self.segment.set_failed();
        }
    }
}

/// Writes a spare's header, syncs the file, and gives it its name.
fn publish(disk: &Arc<dyn Disk>, file: &dyn DiskFile, header: &Header) -> io::Result<()> {
    assert_eq!(header.first, Lsn::ZERO, "only a spare gets a name");
    file.write_at(0, &header.encode())?;
    file.sync()?;
    disk.publish(&temporary(header.number), &segment::name(header.number))
}

fn spare(log: &Log, number: u64) -> Header {
    let bytes = log.options.segment_bytes.0;
    Header { number, generation: log.disk.random(), first: Lsn::ZERO, bytes }
}

fn temporary(number: u64) -> String {
    segment::name(number) + TEMPORARY_SUFFIX
}
