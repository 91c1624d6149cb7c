//! One task, from its beginning or from where it stood, to its end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::chunk::{Chunk, Flight, Road, Tally};
use super::source::{GivenUp, Patience, Source};
use super::task::{ModelSource, Status, Task, Work};
use super::{
    FILE_BYTES_MAX, FILES_MAX, RESUMABLE_FOR_NS, Shared, TASK_BYTES_MAX, check_names, report,
};
use crate::ingest::IngestError;
use crate::object::{Buckets, Object, Store};
use crate::protocol::csv::model::{DataModel, Dialect};
use crate::protocol::csv::plan::{Plan, Row};
use crate::protocol::csv::rows::{Rows, Step};
use crate::protocol::timestream::coral::Violations;

/// Chunks under way at once: while one is synced and another executed, a third is read.
const FLIGHTS_MAX: usize = 4;

/// How often the state is written while a file is read. Everything under way is waited for first.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Longest data model in an object, in bytes.
const MODEL_BYTES_MAX: u64 = 1 << 20;

/// Why a task is left.
pub(super) enum Left {
    /// The server stops, or its log failed: the next start goes on.
    Stopping,
    /// Something is away: whoever resumes it goes on.
    Away(String),
    /// It cannot be done.
    Failed(String),
}

/// Why a file is left.
enum FileLeft {
    Task(Left),
    /// It cannot be read, or not beyond these lines.
    Failed(String, (u64, u64)),
}

impl From<Left> for FileLeft {
    fn from(left: Left) -> Self {
        Self::Task(left)
    }
}

impl From<GivenUp> for Left {
    fn from(given_up: GivenUp) -> Self {
        match given_up {
            GivenUp::Stopping => Self::Stopping,
            GivenUp::Away(why) => Self::Away(why),
            GivenUp::Refused(why) => Self::Failed(why),
        }
    }
}

/// A task in the hands of a thread.
struct Run<'s> {
    shared: &'s Shared,
    patience: Patience,
    task: Task,
    work: Work,
    saved: Duration,
}

/// Loads the task to its end, or as far as it goes.
pub(super) fn run(shared: &Shared, id: &str) {
    let (task, work) = match shared.book.load(id) {
        Ok(read) => read,
        Err(error) => {
            error!(id, %error, "the file of a load task cannot be read");
            return;
        }
    };
    let patience = shared.patience();
    let saved = shared.parts.clock.monotonic();
    let mut run = Run { shared, patience, task, work, saved };
    run.task.status = Status::InProgress;
    let left = match run.all() {
        Ok(()) => run.finish(),
        Err(Left::Failed(why)) => {
            run.work.findings.task.push(why);
            run.finish()
        }
        Err(left) => Err(left),
    };
    run.leave(left);
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), Left> {
        // What comes first may have been sent before a crash, and is received when it was then.
        self.save_received()?;
        let buckets = match &self.task.spec.buckets {
            None => self.shared.buckets.clone(),
            Some(url) => Buckets::open(url, &self.shared.object_options)
                .map_err(|error| Left::Failed(error.plain()))?,
        };
        let (bucket, at) = (self.task.spec.source.bucket.clone(), &self.patience);
        let store = Arc::new(at.until_done(|_| buckets.bucket(&bucket, None))?);
        self.prepare(&buckets, &store)?;
        let mut violations = Violations::default();
        let csv = self.task.spec.csv.clone().unwrap_or_default();
        let dialect = csv.dialect("csvConfiguration", &mut violations);
        let model = self.work.model.clone().expect("a task that is prepared has a model");
        let files = self.work.files.clone().expect("a task that is prepared has files");
        while let Some(object) = files.get(self.work.file) {
            match self.file(&store, object, (&model, &dialect)) {
                Ok(()) => {}
                Err(FileLeft::Task(left)) => return Err(left),
                Err(FileLeft::Failed(why, lines)) => {
                    warn!(task = self.task.id, file = object.key, why, "a file of a load failed");
                    self.task.progress.file_failures += 1;
                    self.work.findings.add((self.work.file, "file"), lines, &why);
                }
            }
            let done = files.iter().take(self.work.file + 1).map(|object| object.bytes).sum();
            self.task.progress.bytes_done = done;
            self.work.next_file();
            self.save()?;
        }
        Ok(())
    }

    /// Reads the model and lists the files, once a task.
    fn prepare(&mut self, buckets: &Buckets, store: &Store) -> Result<(), Left> {
        if self.work.files.is_some() {
            return Ok(());
        }
        let model = match &self.task.spec.model {
            ModelSource::Inline(model) => model.clone(),
            ModelSource::Object { bucket, key } => {
                let store = self.patience.until_done(|_| buckets.bucket(bucket, None))?;
                let model = read_model(&store, key, &self.patience)?;
                let spec = &self.task.spec;
                let table = self.shared.parts.catalog.resolve(&spec.database, &spec.table);
                table.map_or(Ok(()), |table| check_names(&model, &table, "dataModel")).map_err(
                    |why| Left::Failed(format!("the data model {}/{key}: {why}", store.place())),
                )?;
                model
            }
        };
        self.work.model = Some(model);
        let files = self.files(store)?;
        self.task.progress.bytes_total = files.iter().map(|file| file.bytes).sum();
        self.work.files = Some(files);
        self.save()
    }

    /// The files of the source.
    fn files(&self, store: &Store) -> Result<Vec<Object>, Left> {
        let prefix = &self.task.spec.source.prefix;
        let listed = self
            .patience
            .until_done(|most| store.within(most).objects(prefix, OBJECTS_LISTED_MAX))?;
        let is_one = self.task.spec.is_one;
        let is_whole = listed.len() <= OBJECTS_LISTED_MAX || is_one;
        let is_asked = |object: &Object| is_source(object) && (!is_one || object.key == *prefix);
        let files: Vec<Object> = listed.into_iter().filter(is_asked).collect();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let place = store.place();
        if files.is_empty() && is_whole {
            return Err(Left::Failed(format!(
                "no object in {place} has a key that begins with {prefix:?}"
            )));
        }
        if files.len() > FILES_MAX {
            let found = files.len();
            let why = format!(
                "{found} or more objects in {place} begin with {prefix:?}, at most {FILES_MAX} are loaded"
            );
            return Err(Left::Failed(why));
        }
        if !is_whole {
            let why = format!(
                "more than {OBJECTS_LISTED_MAX} objects in {place} begin with {prefix:?}, and no more are \
                 looked through: most are folders or error reports"
            );
            return Err(Left::Failed(why));
        }
        if bytes > TASK_BYTES_MAX {
            let why = format!("the source has {bytes} bytes, at most {TASK_BYTES_MAX} are loaded");
            return Err(Left::Failed(why));
        }
        Ok(files)
    }

    fn file(
        &mut self,
        store: &Arc<Store>,
        object: &Object,
        (model, dialect): (&DataModel, &Dialect),
    ) -> Result<(), FileLeft> {
        let lines = (self.work.line, self.work.line);
        if object.bytes > FILE_BYTES_MAX {
            let (found, most) = (object.bytes, FILE_BYTES_MAX);
            let why = format!("the file has {found} bytes, at most {most} are loaded");
            return Err(FileLeft::Failed(why, lines));
        }
        let opened = Source::open(store, object, &self.patience);
        let mut source = opened.map_err(|error| broken(&error, lines))?;
        let mut rows = Rows::new(dialect, (0, 1));
        let header = next(&mut source, &mut rows).map_err(|error| broken(&error, (1, 1)))?;
        match header {
            Step::Row => {}
            Step::Open => {
                let why = "the header does not end: a quote is left open";
                return Err(FileLeft::Failed(why.to_owned(), rows.lines()));
            }
            Step::End => return Err(FileLeft::Failed("the file is empty".to_owned(), (1, 1))),
            _ => return Err(FileLeft::Failed("the header is too long".to_owned(), (1, 1))),
        }
        let ends: Vec<u32> =
            rows.ends().iter().filter_map(|end| u32::try_from(*end).ok()).collect();
        let plan = Plan::new(model, dialect, Row { text: rows.text(), ends: &ends })
            .map_err(|problem| FileLeft::Failed(problem.message, rows.lines()))?;
        let at = rows.position();
        if self.work.offset > at.0 {
            let offset = self.work.offset;
            let skipped = source.skip_to(at.0, offset);
            skipped.map_err(|error| broken(&error, lines))?;
            rows = Rows::new(dialect, (offset, self.work.line));
        }
        self.rows(&mut source, &mut rows, &plan)
    }

    /// Sends the rows of a file from here to its end.
    fn rows(&mut self, source: &mut Source, rows: &mut Rows, plan: &Plan) -> Result<(), FileLeft> {
        let spec = self.task.spec.clone();
        let mut flights = VecDeque::new();
        let mut chunk = Chunk::default();
        let mut failed = None;
        let is_plain = source.is_plain();
        loop {
            let step = match next(source, rows) {
                Ok(step) => step,
                Err(error) => {
                    failed = Some(broken(&error, rows.lines()));
                    break;
                }
            };
            match step {
                Step::Row => chunk.push(rows),
                Step::TooLong => {
                    let why = "a row is larger than 16 MiB: a quote may be left open; nothing behind \
                               it is read";
                    failed = Some(FileLeft::Failed(why.to_owned(), rows.lines()));
                }
                Step::Open | Step::End | Step::More => {}
            }
            if step != Step::Row {
                break;
            }
            if chunk.is_full() {
                let ingest = &self.shared.parts.ingest.clone();
                let received_ns = self.work.received_ns;
                let road = Road { ingest, spec: &spec, plan, received_ns };
                self.submit(&mut chunk, &road, &mut flights)?;
                self.save_now_and_then(&mut flights, is_plain)?;
            }
        }
        // What was read before the file failed is loaded all the same; not where the task is left.
        if let Some(FileLeft::Task(left)) = failed {
            self.land_all(&mut flights)?;
            self.save()?;
            return Err(left.into());
        }
        if !chunk.is_empty() {
            let ingest = &self.shared.parts.ingest.clone();
            let road = Road { ingest, spec: &spec, plan, received_ns: self.work.received_ns };
            self.submit(&mut chunk, &road, &mut flights)?;
        }
        self.land_all(&mut flights)?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        self.open_quote(rows);
        Ok(())
    }

    /// Counts the row that the end of a file left open.
    fn open_quote(&mut self, rows: &mut Rows) {
        if rows.end() != Step::Open {
            return;
        }
        let why = "a quote is left open: from its line to the end of the file nothing was read";
        self.work.findings.add((self.work.file, "open"), rows.lines(), why);
        self.task.progress.records_processed += 1;
        self.task.progress.parse_failures += 1;
    }

    /// Appends a chunk, for as long as it takes.
    fn submit(
        &mut self,
        chunk: &mut Chunk,
        road: &Road<'_>,
        flights: &mut VecDeque<Flight>,
    ) -> Result<(), Left> {
        if flights.len() >= FLIGHTS_MAX {
            self.land(flights)?;
        }
        loop {
            if self.patience.is_stopping() {
                return Err(Left::Stopping);
            }
            let catalog = &self.shared.parts.catalog;
            let table = catalog.resolve(&road.spec.database, &road.spec.table);
            if table.is_none_or(|table| table.id != self.task.table) {
                self.land_all(flights)?;
                return Err(Left::Failed("the table was deleted while it was loaded".to_owned()));
            }
            match chunk.submit(road) {
                Ok(flight) => {
                    flights.push_back(flight);
                    return Ok(());
                }
                Err(IngestError::Busy { retry_after, .. }) => self.patience.rest(retry_after),
                Err(error @ IngestError::TooLarge { .. }) => {
                    // In the order of the lines, so those before it first.
                    self.land_all(flights)?;
                    let after = chunk.refuse(&mut self.tally(), &error.to_string());
                    (self.work.offset, self.work.line) = after;
                    return Ok(());
                }
                Err(error) => {
                    self.land_all(flights)?;
                    return Err(self.lost(&error));
                }
            }
        }
    }

    fn tally(&mut self) -> Tally<'_> {
        let Self { task, work, .. } = self;
        Tally { file: work.file, progress: &mut task.progress, findings: &mut work.findings }
    }

    /// Hears of the oldest chunk under way.
    fn land(&mut self, flights: &mut VecDeque<Flight>) -> Result<(), Left> {
        let Some(flight) = flights.pop_front() else { return Ok(()) };
        let landed = flight.land(&mut self.tally());
        let after = landed.map_err(|error| self.lost(&error))?;
        assert!(after.0 > self.work.offset, "a chunk is ahead of the one before");
        (self.work.offset, self.work.line) = after;
        Ok(())
    }

    fn land_all(&mut self, flights: &mut VecDeque<Flight>) -> Result<(), Left> {
        while !flights.is_empty() {
            self.land(flights)?;
        }
        Ok(())
    }

    /// The log or the way in is gone; what is counted so far stands on disk or is counted again.
    fn lost(&self, error: &IngestError) -> Left {
        match error {
            IngestError::Busy { .. } | IngestError::Poisoned { .. } => {
                if !self.patience.is_stopping() {
                    warn!(task = self.task.id, %error, "a load is left; the next start goes on");
                }
                Left::Stopping
            }
            error => Left::Failed(error.to_string()),
        }
    }

    fn save_now_and_then(
        &mut self,
        flights: &mut VecDeque<Flight>,
        is_plain: bool,
    ) -> Result<(), Left> {
        let now = self.shared.parts.clock.monotonic();
        if now.saturating_sub(self.saved) < SAVE_EVERY {
            return Ok(());
        }
        self.land_all(flights)?;
        if is_plain {
            let files = self.work.files.iter().flatten();
            let before: u64 = files.take(self.work.file).map(|object| object.bytes).sum();
            self.task.progress.bytes_done = before + self.work.offset;
        }
        self.save()
    }

    /// Writes the state, with nothing under way, so that what comes next may be received now. A disk that
    /// is full holds the task up.
    fn save(&mut self) -> Result<(), Left> {
        self.work.received_ns = self.work.received_ns.max(self.shared.parts.clock.wall_ns());
        self.save_received()
    }

    fn save_received(&mut self) -> Result<(), Left> {
        let clock = &self.shared.parts.clock;
        self.task.updated_ns = clock.wall_ns();
        while let Err(error) = self.shared.save(&self.task, &self.work) {
            warn!(task = self.task.id, %error, "the state of a load cannot be written; trying again");
            if self.patience.is_stopping() {
                return Err(Left::Stopping);
            }
            self.patience.rest(SAVE_EVERY);
        }
        self.saved = clock.monotonic();
        Ok(())
    }

    /// Writes the report, where there is something to tell.
    fn finish(&mut self) -> Result<(), Left> {
        if self.work.findings.is_empty() {
            self.task.status = Status::Succeeded;
            self.task.message = None;
            return Ok(());
        }
        let place = report::write(self.shared, &self.task, &self.work, &self.patience)?;
        self.task.status = Status::Failed;
        self.task.message = Some(report::message(&self.task, &self.work, &place));
        Ok(())
    }

    fn leave(&mut self, left: Result<(), Left>) {
        match left {
            // As it stands on disk: what was counted since is counted again.
            Err(Left::Stopping) => return,
            Err(Left::Away(why) | Left::Failed(why)) => {
                self.task.status = Status::ProgressStopped;
                let until_ns = self.shared.parts.clock.wall_ns().saturating_add(RESUMABLE_FOR_NS);
                self.task.resumable_until_ns = Some(until_ns);
                self.task.message =
                    Some(report::cut(format!("stopped, and can be resumed: {why}")));
            }
            Ok(()) => self.task.resumable_until_ns = None,
        }
        if self.save().is_ok() {
            let (id, status) = (&self.task.id, self.task.status.name());
            let processed = self.task.progress.records_processed;
            info!(id, status, processed, message = self.task.message, "a load ended");
        }
    }
}

fn broken(error: &io::Error, lines: (u64, u64)) -> FileLeft {
    let given_up = error.get_ref().and_then(|inner| inner.downcast_ref::<GivenUp>());
    match given_up {
        Some(GivenUp::Refused(why)) => FileLeft::Failed(why.clone(), lines),
        Some(given_up) => FileLeft::Task(given_up.clone().into()),
        None => FileLeft::Failed(format!("the file cannot be inflated: {error}"), lines),
    }
}

/// Whether an object is a file of a source: neither a report of an earlier load, nor one of no bytes that
/// stands for a folder. What has bytes is a file, whatever its key: one that cannot be read is told.
fn is_source(object: &Object) -> bool {
    let is_folder = object.key.ends_with('/') && object.bytes == 0;
    !is_folder && !object.key.ends_with(report::NAME)
}

/// Objects that are looked at: among the files there may be reports and folders.
const OBJECTS_LISTED_MAX: usize = 10 * FILES_MAX;

/// The next row, or what is there instead of it: never [`Step::More`]. An open quote is found again when
/// [`Rows::end`] is asked.
fn next(source: &mut Source, rows: &mut Rows) -> io::Result<Step> {
    loop {
        let input = source.fill()?;
        if input.is_empty() {
            return Ok(rows.end());
        }
        let (used, step) = rows.next(input);
        source.consume(used);
        if step != Step::More {
            return Ok(step);
        }
    }
}

fn read_model(store: &Store, key: &str, patience: &Patience) -> Result<DataModel, Left> {
    let wrong =
        |why: String| Left::Failed(format!("the data model {}/{key}: {why}", store.place()));
    let listed = patience.until_done(|most| store.within(most).objects(key, 1))?;
    let object = listed.into_iter().find(|object| object.key == key);
    let object = object.ok_or_else(|| wrong("there is no such object".to_owned()))?;
    if object.bytes > MODEL_BYTES_MAX {
        return Err(wrong(format!(
            "it has {} bytes, at most {MODEL_BYTES_MAX} are read",
            object.bytes
        )));
    }
    let bytes = patience.until_done(|most| store.within(most).get(key))?;
    let model = DataModel::from_file(&bytes).map_err(wrong)?;
    let mut violations = Violations::default();
    model.check("dataModel", &mut violations);
    violations.finish().map_err(wrong)?;
    Ok(model)
}
