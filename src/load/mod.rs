//! Floor 5: batch loads. A **load task** turns CSV objects into records, and those take the ordinary road:
//! [`Ingest`], the log, the shards, the version rule.
//!
//! ```text
//!  object ---> source ---> csv::rows ---> chunk ---> ingest.submit ---> (log, shards) ---> verdicts
//!  (blocks)   (inflate)   (bounded rows)  (8192 rows)                                          |
//!                                            state: position, counts, findings  <-------------+
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`task`] | what a task is |
//! | [`findings`] | what was not taken, as ranges of lines |
//! | `book` | tasks on disk |
//! | `source` | an object as a stream of bytes |
//! | `chunk` | rows on their way, and the verdicts on them |
//! | `worker` | one task, from where it stood to its end |
//! | `report` | the error report |
//!
//! # Why `kill -9` at any byte neither doubles a row nor a failure in the counts
//!
//! The state of a task is one file, replaced whole ([`crate::base::fs::replace`]): the position in its
//! files up to which everything is counted, the counts, the line ranges of what was refused, and the time
//! of receipt of what comes next. It is written only when nothing is under way: every chunk before the
//! position was heard of, none behind it was sent. So a crash finds one state or the other, and in either
//! the counts are those of the rows before the position. What must be shown is that the rows behind it,
//! some of which were sent and even executed before the crash (a **stretch**), give the same records and
//! the same verdicts when they are sent again.
//!
//! 1. *The same rows.* The object is the one that was listed: every read of it asks for the same size and
//!    tag, and a file that has changed fails. The position is between two rows, and the reader goes on
//!    there as it would have gone on (`protocol::csv::tests`, at every position).
//! 2. *The same records*, since the plan depends on model and header only.
//! 3. *The same verdict of the way in.* It depends on the record, the table's settings and the time of
//!    receipt, which is part of the state.
//! 4. *The same verdict of the engine*, which is the version rule ([`crate::engine::upsert`]) for one
//!    version **V**, that of the task. Take the records of one key in their order.
//!    - While the record that stands has a version below V, a record is refused only for a type that
//!      stands otherwise, and no update changes a type: the second time it is refused again.
//!    - The first that is not refused sets the version to V. From there on attributes are only added: at
//!      an equal version none is replaced. So a record that was taken (all its attributes stood from then
//!      on with its values) is `Unchanged` the second time, which is taken too; and one that was refused
//!      (an attribute stood with another value or type) meets the same attribute the second time.
//!    - What stands above V refuses all of them, both times.
//!
//!    That holds also for two rows of one file with the same key and different values: the first is
//!    taken, the second refused, both times. Scalar records are the same with one attribute.
//! 5. *No row twice*, since the same key and version is the same record.
//!
//! A verdict may differ only where **somebody else** writes the same keys with a version above V, changes
//! the table's retention, or fills it to one of its limits between the crash and the second sending. Then
//! the rows of the stretch are counted by the verdict that they have now; each still once.
//!
//! The report has a key of its own per task and is written before the task's last state: a crash between
//! them writes it again, the same.
//!
//! # Bounds
//!
//! A task holds one block of its object, one piece, one chunk being filled, [`worker`]'s few chunks in the
//! log, and its findings, whatever the size of the files. A row has at most 16 MiB, a task
//! [`FILES_MAX`] files of [`FILE_BYTES_MAX`] and [`TASK_BYTES_MAX`] together; [`ACTIVE_MAX`] tasks are
//! active, [`ACTIVE_PER_TABLE_MAX`] of one table, and [`KEPT_MAX`] that ended are remembered.
//! Source: Timestream developer guide, "Quotas" and "Batch load"; the last is ours.
//!
//! # Stopping
//!
//! A source, or the place of a report, that is away is tried again for `batch_load.retry_for`; then the
//! task stops (`PROGRESS_STOPPED`) and can be resumed for [`RESUMABLE_FOR_NS`]. A full log holds a task up
//! and does not stop it. When the server stops, its tasks go on at the next start, by themselves.

pub mod task;
pub mod findings;
mod options;
mod book;
mod source;
mod chunk;
mod worker;
mod report;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{error, info};

use crate::base::class::Class;
use crate::base::clock::SharedClock;
use crate::base::thread::Thread;
use crate::base::units::DAY_NS;
use crate::engine::catalog::{Catalog, Profile, Table};
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::metrics::catalog::LOAD_OUTCOMES;
use crate::object::{self, Buckets, ObjectError};
use crate::protocol::csv::model::DataModel;
use crate::protocol::timestream::coral::Violations;

use book::Book;
use source::Patience;
use task::{ModelSource, Progress, Spec, Status, Task, Token, Work};

pub use options::Options;

/// Most files of a task.
pub const FILES_MAX: usize = 100;

/// Most bytes of a file.
pub const FILE_BYTES_MAX: u64 = 5 << 30;

/// Most bytes of a task's files.
pub const TASK_BYTES_MAX: u64 = 100 << 30;

/// Most active tasks.
pub const ACTIVE_MAX: usize = 10;

/// Most active tasks of one table.
pub const ACTIVE_PER_TABLE_MAX: usize = 5;

/// Most ended tasks that are remembered; the oldest are forgotten.
pub const KEPT_MAX: usize = 200;

/// How long a stopped task can be resumed, ns.
pub const RESUMABLE_FOR_NS: i64 = 7 * DAY_NS;

/// How long the name of a request stands for it, ns.
pub const TOKEN_FOR_NS: i64 = DAY_NS;

const _: () = assert!(ACTIVE_PER_TABLE_MAX <= ACTIVE_MAX);

/// How long a stop waits for the threads before it takes the shards away, which what they wait for may
/// need.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Why a request about tasks is refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such table.
    #[error("the table {database}.{table} does not exist")]
    NoTable {
        /// The database.
        database: String,
        /// The table.
        table: String,
    },
    /// There is no such task.
    #[error("the batch load task {id} does not exist")]
    NoTask {
        /// Its name.
        id: String,
    },
    /// The data model names what the table refuses in every row.
    #[error("{0}")]
    Model(String),
    /// The client gave the same name to another request.
    #[error("the ClientToken was given to another request, which made the task {id}")]
    OtherRequest {
        /// The task of that request.
        id: String,
    },
    /// As many are active as may be.
    #[error("{active} batch load tasks are active, at most {ACTIVE_MAX} may be: try again later")]
    TooMany {
        /// How many are.
        active: usize,
    },
    /// As many of one table are active as may be.
    #[error(
        "{active} batch load tasks of the table are active, at most {ACTIVE_PER_TABLE_MAX} may be: \
         try again later"
    )]
    TooManyOfTable {
        /// How many are.
        active: usize,
    },
    /// It did not stop, or too long ago.
    #[error("the batch load task {id} cannot be resumed: {why}")]
    NotResumable {
        /// Its name.
        id: String,
        /// What it is instead.
        why: String,
    },
    /// The state cannot be written; nothing was changed.
    #[error("the state of the batch load task cannot be written")]
    Fault(#[from] io::Error),
    /// The place of the buckets cannot be used.
    #[error("the buckets cannot be used")]
    Buckets(#[from] ObjectError),
    /// The server stops.
    #[error("the server stops")]
    Stopping,
}

impl LoadError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Fault(_) | Self::Buckets(_) => Class::Fault,
            Self::TooMany { .. } | Self::TooManyOfTable { .. } | Self::Stopping => Class::Busy,
            _ => Class::Refused,
        }
    }
}

/// What tasks work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The way in.
    pub ingest: Ingest,
    /// The tables.
    pub catalog: Arc<Catalog>,
    /// Every metric.
    pub metrics: Metrics,
    /// Time.
    pub clock: SharedClock,
}

/// The load tasks of a data folder, and the threads that load them.
#[derive(Debug)]
pub struct Loads {
    shared: Arc<Shared>,
    threads: Mutex<Vec<Thread>>,
}

/// What the threads share. Lock order: `tasks`, then `queue`; files are written under `tasks`, which
/// nobody holds who loads.
#[derive(Debug)]
struct Shared {
    parts: Parts,
    options: Options,
    object_options: object::Options,
    buckets: Buckets,
    book: Book,
    tasks: Mutex<BTreeMap<String, Task>>,
    /// The ids of active tasks that wait for a thread. It has room for all of them: no more are active.
    queue: Mutex<Option<Sender<String>>>,
    stopping: Arc<AtomicBool>,
}

impl Loads {
    /// Opens the tasks in `dir` and goes on with those that were active.
    ///
    /// # Errors
    ///
    /// [`LoadError`]: the folder cannot be read, or the settings name no place for buckets; nothing was
    /// started.
    pub fn start(
        dir: &Path,
        parts: Parts,
        options: Options,
        object_options: object::Options,
    ) -> Result<Self, LoadError> {
        let buckets = Buckets::open(&options.url, &object_options)?;
        let (book, tasks) = Book::open(dir)?;
        let (sender, receiver) = bounded(ACTIVE_MAX);
        let active = tasks.iter().filter(|task| task.status.is_active());
        for id in active.map(|task| task.id.clone()).take(ACTIVE_MAX) {
            info!(id, "a load goes on");
            sender.send(id).map_err(|_gone| LoadError::Stopping)?;
        }
        let tasks = tasks.into_iter().map(|task| (task.id.clone(), task)).collect();
        let workers = options.workers;
        let shared = Arc::new(Shared {
            parts,
            options,
            object_options,
            buckets,
            book,
            tasks: Mutex::new(tasks),
            queue: Mutex::new(Some(sender)),
            stopping: Arc::default(),
        });
        shared.show_tasks(&shared.lock());
        let loads = Self { shared: Arc::clone(&shared), threads: Mutex::default() };
        for number in 0..workers {
            let (shared, receiver) = (Arc::clone(&shared), receiver.clone());
            let thread =
                Thread::spawn(&format!("load-{number}"), move || serve(&shared, &receiver));
            loads.lock_threads().push(thread?);
        }
        Ok(loads)
    }

    /// Makes a task, durably; or finds the one that the same request of the last 24 hours made.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; no task was made.
    pub fn create(&self, spec: Spec, token: Option<Token>) -> Result<String, LoadError> {
        let shared = &self.shared;
        let now_ns = shared.parts.clock.wall_ns();
        let mut tasks = shared.lock();
        let is_repetition = |task: &&Task| {
            token.is_some()
                && task.token == token
                && now_ns.saturating_sub(task.created_ns) < TOKEN_FOR_NS
        };
        if let Some(task) = tasks.values().find(is_repetition) {
            let id = task.id.clone();
            return if task.spec == spec { Ok(id) } else { Err(LoadError::OtherRequest { id }) };
        }
        let found = shared.parts.catalog.resolve(&spec.database, &spec.table);
        let table = found.ok_or_else(|| {
            let (database, table) = (spec.database.clone(), spec.table.clone());
            LoadError::NoTable { database, table }
        })?;
        if let ModelSource::Inline(model) = &spec.model {
            check_names(model, &table, "dataModelConfiguration.dataModel")
                .map_err(LoadError::Model)?;
        }
        let table = table.id;
        check_active(&tasks, |task| task.table == table)?;
        let task = Task {
            id: new_id(now_ns),
            spec,
            token,
            table,
            status: Status::Created,
            message: None,
            progress: Progress::default(),
            created_ns: now_ns,
            updated_ns: now_ns,
            resumable_until_ns: None,
        };
        shared.book.save(&task, &Work::new(now_ns))?;
        let id = task.id.clone();
        tasks.insert(id.clone(), task);
        shared.forget_old(&mut tasks);
        shared.show_tasks(&tasks);
        shared.enqueue(&id)?;
        Ok(id)
    }

    /// The task of this name.
    pub fn get(&self, id: &str) -> Option<Task> {
        self.shared.lock().get(id).cloned()
    }

    /// All tasks, in the order in which they were made.
    pub fn all(&self) -> Vec<Task> {
        let mut tasks: Vec<Task> = self.shared.lock().values().cloned().collect();
        tasks.sort_by(|a, b| (a.created_ns, &a.id).cmp(&(b.created_ns, &b.id)));
        tasks
    }

    /// What was not taken of a task so far, in words, at most `most` lines.
    ///
    /// # Errors
    ///
    /// [`LoadError::Fault`] when the task's file cannot be read.
    pub fn findings(&self, id: &str, most: usize) -> Result<Vec<String>, LoadError> {
        let (_, work) = self.shared.book.load(id)?;
        Ok(work.findings.told(most, |file| report::name_of(&work, file)))
    }

    /// Lets a task that stopped go on.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; the task is as it was.
    pub fn resume(&self, id: &str) -> Result<(), LoadError> {
        let shared = &self.shared;
        let mut tasks = shared.lock();
        let task = tasks.get(id).ok_or_else(|| LoadError::NoTask { id: id.to_owned() })?;
        let now_ns = shared.parts.clock.wall_ns();
        let not = |why: String| LoadError::NotResumable { id: id.to_owned(), why };
        if task.status != Status::ProgressStopped {
            return Err(not(format!("it is {}, not PROGRESS_STOPPED", task.status.name())));
        }
        if task.resumable_until_ns.is_none_or(|until_ns| now_ns >= until_ns) {
            return Err(not("it stopped too long ago".to_owned()));
        }
        let table = task.table;
        check_active(&tasks, |task| task.table == table)?;
        let (mut task, mut work) = shared.book.load(id)?;
        // A task that stopped has heard of all that it sent, so what comes next is received now.
        work.received_ns = work.received_ns.max(now_ns);
        task.status = Status::PendingResume;
        (task.message, task.resumable_until_ns, task.updated_ns) = (None, None, now_ns);
        shared.book.save(&task, &work)?;
        tasks.insert(id.to_owned(), task);
        shared.show_tasks(&tasks);
        shared.enqueue(id)
    }

    /// Asks the threads to leave their tasks as they stand, and waits a while for them. What a thread
    /// waits for may need the shards to end: [`Self::join`] waits for the rest.
    pub fn stop(&self) {
        // Relaxed: the queue's end wakes whoever waits, and the others look now and then.
        self.shared.stopping.store(true, Ordering::Relaxed);
        drop(self.shared.lock_queue().take());
        let clock = &self.shared.parts.clock;
        let end = clock.monotonic() + STOP_WAIT;
        while !self.lock_threads().iter().all(Thread::is_finished) && clock.monotonic() < end {
            clock.sleep(Duration::from_millis(5));
        }
    }

    /// Waits until all threads have ended.
    pub fn join(&self) {
        self.stop();
        for thread in self.lock_threads().drain(..) {
            if let Err(panicked) = thread.join() {
                error!(%panicked, "a thread of batch loads ended by a panic");
            }
        }
    }

    fn lock_threads(&self) -> MutexGuard<'_, Vec<Thread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Loads {
    fn drop(&mut self) {
        self.join();
    }
}

/// The loop of a thread: task after task, until the server stops.
fn serve(shared: &Shared, queue: &Receiver<String>) {
    while let Ok(id) = queue.recv() {
        if shared.patience().is_stopping() {
            return;
        }
        worker::run(shared, &id);
    }
}

/// Checks the names that a model gives against the rules of the table that it is for.
fn check_names(model: &DataModel, table: &Table, at: &str) -> Result<(), String> {
    let mut violations = Violations::default();
    if table.profile() == Profile::Strict {
        model.check_strict(at, &mut violations);
    }
    violations.finish()
}

fn check_active(
    tasks: &BTreeMap<String, Task>,
    is_of_table: impl Fn(&Task) -> bool,
) -> Result<(), LoadError> {
    let active = || tasks.values().filter(|task| task.status.is_active());
    let of_table = active().filter(|task| is_of_table(task)).count();
    if of_table >= ACTIVE_PER_TABLE_MAX {
        return Err(LoadError::TooManyOfTable { active: of_table });
    }
    let active = active().count();
    if active >= ACTIVE_MAX { Err(LoadError::TooMany { active }) } else { Ok(()) }
}

/// A name that no other task has: 32 hexadecimal digits, as Timestream's.
fn new_id(now_ns: i64) -> String {
    // The seed of every `RandomState` is random.
    let part = |salt: u8| RandomState::new().hash_one((now_ns, salt));
    format!("{:016X}{:016X}", part(0), part(1))
}

impl Shared {
    /// Writes the state of a task and shows it.
    fn save(&self, task: &Task, work: &Work) -> io::Result<()> {
        self.book.save(task, work)?;
        let mut tasks = self.lock();
        let before = tasks.insert(task.id.clone(), task.clone());
        let before = before.map_or_else(Progress::default, |before| before.progress);
        self.show_tasks(&tasks);
        let counts =
            |of: &Progress| [of.records_ingested, of.parse_failures, of.record_ingestion_failures];
        let grown = counts(&task.progress).into_iter().zip(counts(&before));
        for (label, (now, before)) in LOAD_OUTCOMES.iter().zip(grown) {
            let counter = self.parts.metrics.load_records.with_label_values(&[*label]);
            counter.inc_by(now.saturating_sub(before));
        }
        Ok(())
    }

    fn enqueue(&self, id: &str) -> Result<(), LoadError> {
        let queue = self.lock_queue();
        let sender = queue.as_ref().ok_or(LoadError::Stopping)?;
        // There is room for every active task, so only a stop is in the way; its file goes on then.
        sender.try_send(id.to_owned()).map_err(|_full| LoadError::Stopping)
    }

    /// Forgets the oldest tasks that ended, where there are too many.
    fn forget_old(&self, tasks: &mut BTreeMap<String, Task>) {
        let ended = tasks.values().filter(|task| !task.status.is_active());
        let mut ended: Vec<(i64, String)> =
            ended.map(|task| (task.updated_ns, task.id.clone())).collect();
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(KEPT_MAX);
        for (_, id) in ended.into_iter().take(surplus) {
            if let Err(error) = self.book.forget(&id) {
                error!(id, %error, "an old load task cannot be removed");
            }
            tasks.remove(&id);
        }
    }

    fn show_tasks(&self, tasks: &BTreeMap<String, Task>) {
        for status in Status::ALL {
            let count = tasks.values().filter(|task| task.status == status).count();
            let gauge = self.parts.metrics.load_tasks.with_label_values(&[status.name()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn patience(&self) -> Patience {
        Patience {
            clock: Arc::clone(&self.parts.clock),
            stopping: Arc::clone(&self.stopping),
            retry_for: self.options.retry_for.0,
            metrics: self.parts.metrics.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Task>> {
        // A panic under it leaves a task that is shown as it was; its file is what counts.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_queue(&self) -> MutexGuard<'_, Option<Sender<String>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
