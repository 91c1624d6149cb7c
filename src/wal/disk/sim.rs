//! A disk in memory that loses what was not synced, for tests.
//!
//! Of each file it keeps what the device has and the writes since the last sync. A power cut applies
//! to every 512-byte sector, independently, some prefix of the writes that touched it, so un-synced
//! bytes arrive in any order and torn; of the names changed since the last sync of the directory, any
//! subset. A sync that fails leaves the page cache showing bytes that the device never got, as Linux
//! does. The n-th operation can fail, once or from then on, or be the moment of a power cut. What fails
//! may have happened all the same, or in part: a write or an allocation is cut short, a file has its
//! new name although the rename was answered with an error.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile};
use crate::wal::map::{Access, Map};
use crate::wal::{locked, segment};

pub(in crate::wal) use super::fault::{Fault, Kind, Lie, Random};

const SECTOR_BYTES: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(in crate::wal) struct SimDisk {
    state: Arc<Mutex<State>>,
    interrupt: Arc<Mutex<Option<Interrupt>>>,
}

/// What a test does in the middle of a write.
struct Interrupt(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupt")
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renamings: Vec<Naming>,
    /// Operations so far.
    operations: u64,
    /// The same, by kind.
    counts: BTreeMap<Kind, u64>,
    fault: Option<(u64, Fault)>,
    dead: bool,
    lie: Option<Lie>,
    /// Bytes that all files may have.
    space: u64,
    /// Files with the name of a segment that were renamed to be used again, until asked.
    recycled: u64,
    /// What failed first.
    failed: Option<Kind>,
    /// The time that files get when they are written.
    now_ns: i64,
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What the device has.
    device: Vec<u8>,
    /// What a read shows.
    cached: Vec<u8>,
    /// Writes since the last sync, oldest first.
    writes: Vec<(usize, Vec<u8>)>,
    /// When it was last written.
    modified_ns: i64,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl SimDisk {
    pub(in crate::wal) fn new(seed: u64) -> Self {
        let state = State {
            random: Random::new(seed),
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renamings: Vec::new(),
            operations: 0,
            counts: BTreeMap::new(),
            fault: None,
            dead: false,
            lie: None,
            space: u64::MAX,
            recycled: 0,
            failed: None,
            now_ns: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), interrupt: Arc::default() }
    }

    pub(in crate::wal) fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Operations so far.
    pub(in crate::wal) fn operations(&self) -> u64 {
        locked(&self.state).operations
    }

    /// The same, by kind.
    pub(in crate::wal) fn counts(&self) -> BTreeMap<Kind, u64> {
        locked(&self.state).counts.clone()
    }

    /// Lets `fault` happen at the operation that comes after `after` others.
    pub(in crate::wal) fn fail_after(&self, after: u64, fault: Fault) {
        let mut state = locked(&self.state);
        state.fault = Some((state.operations + after, fault));
    }

    pub(in crate::wal) fn lie(&self, lie: Lie) {
        locked(&self.state).lie = Some(lie);
    }

    /// How much all files may have.
    pub(in crate::wal) fn set_space(&self, bytes: u64) {
        locked(&self.state).space = bytes;
    }

    /// The time of what is written from now on.
    pub(in crate::wal) fn set_time(&self, now_ns: i64) {
        locked(&self.state).now_ns = now_ns;
    }

    /// What failed first, because a test wanted it.
    pub(in crate::wal) fn failed(&self) -> Option<Kind> {
        locked(&self.state).failed
    }

    /// Calls `act` before the next write, as another thread might that comes in between.
    pub(in crate::wal) fn interrupt(&self, act: impl FnOnce() + Send + 'static) {
        *locked(&self.interrupt) = Some(Interrupt(Box::new(act)));
    }

    /// Segments renamed to be used again, since the last call.
    pub(in crate::wal) fn recycled(&self) -> u64 {
        std::mem::take(&mut locked(&self.state).recycled)
    }

    /// Whether the power went.
    pub(in crate::wal) fn is_dead(&self) -> bool {
        locked(&self.state).dead
    }

    /// The disk with all that it has, and no fault waiting: what a killed process leaves.
    pub(in crate::wal) fn after_kill(&self) -> Self {
        let mut state = locked(&self.state);
        state.fault = None;
        state.dead = false;
        self.clone()
    }

    /// What a power cut leaves, by chance.
    pub(in crate::wal) fn after_power_cut(&self, random: &mut Random) -> Self {
        let state = locked(&self.state);
        // From "nothing un-synced arrived" to "all of it".
        let arrives = [0, 10, 50, 90, 100][usize::try_from(random.below(5)).unwrap()];
        let mut names = state.durable_names.clone();
        for naming in &state.renamings {
            if random.chance(arrives) {
                naming.apply(&mut names);
            }
        }
        let files: Vec<File> =
            state.files.iter().map(|f| f.after_power_cut(random, arrives)).collect();
        let survivor = Self::new(random.next());
        let mut left = locked(&survivor.state);
        left.files = files;
        left.names.clone_from(&names);
        left.durable_names = names;
        left.lie = state.lie;
        left.now_ns = state.now_ns;
        drop(left);
        survivor
    }

    /// A copy of the disk as it is.
    pub(in crate::wal) fn copy(&self) -> Self {
        let state = locked(&self.state);
        let copy = Self::new(0);
        let mut other = locked(&copy.state);
        other.files.clone_from(&state.files);
        other.names.clone_from(&state.names);
        other.durable_names.clone_from(&state.durable_names);
        other.now_ns = state.now_ns;
        drop(other);
        copy
    }

    /// The bytes of a file.
    pub(in crate::wal) fn bytes_of(&self, name: &str) -> Vec<u8> {
        let state = locked(&self.state);
        state.files[state.names[name]].cached.clone()
    }

    /// All files that have a name, with their bytes.
    pub(in crate::wal) fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let state = locked(&self.state);
        let bytes = |(name, id): (&String, &usize)| (name.clone(), state.files[*id].cached.clone());
        state.names.iter().map(bytes).collect()
    }

    /// Flips a bit of a file.
    pub(in crate::wal) fn flip(&self, name: &str, bit: usize) {
        let mut state = locked(&self.state);
        let id = state.names[name];
        state.files[id].cached[bit / 8] ^= 1 << (bit % 8);
    }

    /// Puts a file there, durably.
    pub(in crate::wal) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = locked(&self.state);
        let id = state.files.len();
        let (device, writes, modified_ns) = (bytes.clone(), Vec::new(), state.now_ns);
        state.files.push(File { device, cached: bytes, writes, modified_ns });
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }

    /// Takes a file away, durably.
    pub(in crate::wal) fn take(&self, name: &str) {
        let mut state = locked(&self.state);
        state.names.remove(name);
        state.durable_names.remove(name);
    }

    /// The names of the segments, in order.
    pub(in crate::wal) fn segments(&self) -> Vec<String> {
        let state = locked(&self.state);
        state.names.keys().filter(|name| segment::number_in(name).is_some()).cloned().collect()
    }
}

impl State {
    /// Counts an operation; the error it must fail with, and whether it happens all the same.
    fn begin(&mut self, kind: Kind) -> Result<(), Failing> {
        if self.dead {
            return Err(Failing { error: dead(), happens: false });
        }
        let now = self.operations;
        self.operations += 1;
        *self.counts.entry(kind).or_default() += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        let (error, due) = match fault {
            Fault::Once(error) => (error.into(), now == at),
            Fault::Forever(error) => (error.into(), now >= at),
            Fault::FullOnce => (full(), now == at && kind.needs_space()),
            Fault::FullForever => (full(), now >= at && kind.needs_space()),
            Fault::PowerCut => (dead(), now == at),
        };
        if !due {
            return Ok(());
        }
        self.failed.get_or_insert(kind);
        self.dead = fault == Fault::PowerCut;
        Err(Failing { error, happens: self.random.chance(50) })
    }

    /// How many of `length` bytes a failing operation gets done.
    fn part(&mut self, failing: &Failing, length: usize) -> usize {
        if self.dead {
            // Which sectors arrive is decided by the cut itself.
            return if failing.happens { length } else { 0 };
        }
        usize::try_from(self.random.below(length as u64 + 1)).unwrap()
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.recycled += u64::from(
            matches!(&naming, Naming::Rename(from, _) if segment::number_in(from).is_some()),
        );
        self.renamings.push(naming);
    }

    fn sync_names(&mut self) {
        if self.lie != Some(Lie::Names) {
            self.durable_names.clone_from(&self.names);
            self.renamings.clear();
        }
    }
}

struct Failing {
    error: io::Error,
    happens: bool,
}

fn full() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

fn dead() -> io::Error {
    io::Error::other("the power is gone")
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        apply(&mut self.cached, offset, bytes);
        self.writes.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.writes) {
            apply(&mut self.device, offset, &bytes);
        }
        self.device.resize(self.cached.len().max(self.device.len()), 0);
    }

    /// Some of what was written arrives; the rest is forgotten, and a read does not show it.
    fn fail_to_sync(&mut self, random: &mut Random) {
        self.device = self.after_power_cut(random, 50).device;
        self.device.resize(self.cached.len().max(self.device.len()), 0);
        self.writes.clear();
    }

    fn after_power_cut(&self, random: &mut Random, arrives: u64) -> Self {
        let mut device = self.device.clone();
        if random.chance(arrives) {
            device.resize(self.cached.len().max(device.len()), 0);
        }
        let sectors = self.cached.len().div_ceil(SECTOR_BYTES);
        let count = self.writes.len() as u64;
        let kept: Vec<u64> = (0..sectors)
            .map(|_| if random.chance(arrives) { count } else { random.below(count + 1) })
            .map(|upto| if arrives == 0 { 0 } else { upto })
            .collect();
        for (index, (offset, bytes)) in (0_u64..).zip(&self.writes) {
            let mut at = 0;
            while at < bytes.len() {
                let sector = (offset + at) / SECTOR_BYTES;
                let end = ((sector + 1) * SECTOR_BYTES - offset).min(bytes.len());
                if index < kept[sector] {
                    apply(&mut device, offset + at, &bytes[at..end]);
                }
                at = end;
            }
        }
        let (writes, modified_ns) = (Vec::new(), self.modified_ns);
        Self { cached: device.clone(), device, writes, modified_ns }
    }
}

fn apply(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = locked(&self.state);
        state.begin(Kind::List).map_err(|f| f.error)?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = locked(&self.state);
        let failing = state.begin(Kind::Create).err();
        let id = state.files.len();
        if failing.as_ref().is_none_or(|f| f.happens) {
            state.files.push(File::default());
            state.name(Naming::Create(name.to_owned(), id));
        }
        match failing {
            Some(failing) => Err(failing.error),
            None => Ok(Box::new(SimFile { disk: self.clone(), id })),
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = locked(&self.state);
        state.begin(Kind::Open).map_err(|f| f.error)?;
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), id }))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let failing = state.begin(Kind::Rename).err();
        if failing.as_ref().is_none_or(|f| f.happens) {
            if !state.names.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        }
        if let Some(failing) = failing {
            return Err(failing.error);
        }
        state.begin(Kind::SyncNames).map_err(|f| f.error)?;
        state.sync_names();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = locked(&self.state);
        let failing = state.begin(Kind::Remove).err();
        if failing.as_ref().is_none_or(|f| f.happens) {
            if !state.names.contains_key(name) {
                return Err(io::ErrorKind::NotFound.into());
            }
            state.name(Naming::Remove(name.to_owned()));
        }
        failing.map_or(Ok(()), |f| Err(f.error))
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = locked(&self.state);
        state.begin(Kind::SyncNames).map_err(|f| f.error)?;
        state.sync_names();
        Ok(())
    }

    fn random(&self) -> u64 {
        locked(&self.state).random.next()
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/sim").join(name)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    id: usize,
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        let mut state = locked(&self.disk.state);
        state.begin(Kind::Length).map_err(|f| f.error)?;
        Ok(state.files[self.id].cached.len() as u64)
    }

    fn modified_ns(&self) -> io::Result<i64> {
        Ok(locked(&self.disk.state).files[self.id].modified_ns)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        let failing = state.begin(Kind::Allocate).err();
        let used: usize = state.names.values().map(|id| state.files[*id].cached.len()).sum();
        let room = state.space.saturating_sub(used as u64);
        // A failed allocation leaves what it got.
        let mut got = usize::try_from(bytes.min(room)).unwrap();
        if let Some(failing) = &failing {
            got = state.part(failing, got);
        }
        state.files[self.id].cached.resize(got, 0);
        match failing {
            Some(failing) => Err(failing.error),
            None if got as u64 == bytes => Ok(()),
            None => Err(full()),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let interrupt = locked(&self.disk.interrupt).take();
        if let Some(Interrupt(act)) = interrupt {
            act();
        }
        let mut state = locked(&self.disk.state);
        let failing = state.begin(Kind::Write).err();
        let part = failing.as_ref().map_or(bytes.len(), |f| state.part(f, bytes.len()));
        let now_ns = state.now_ns;
        let file = &mut state.files[self.id];
        file.modified_ns = now_ns;
        let offset = usize::try_from(offset).unwrap();
        assert!(offset + bytes.len() <= file.cached.len(), "the log writes only what it allocated");
        file.write(offset, &bytes[..part]);
        failing.map_or(Ok(()), |f| Err(f.error))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = locked(&self.disk.state);
        state.begin(Kind::Read).map_err(|f| f.error)?;
        let offset = usize::try_from(offset).unwrap();
        let rest = state.files[self.id].cached.get(offset..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        let failing = state.begin(Kind::Sync).err();
        let State { files, random, lie, dead, .. } = &mut *state;
        match failing {
            None if *lie == Some(Lie::Sync) => Ok(()),
            None => {
                files[self.id].sync();
                Ok(())
            }
            Some(failing) => {
                if !*dead {
                    files[self.id].fail_to_sync(random);
                }
                Err(failing.error)
            }
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut state = locked(&self.disk.state);
        state.begin(Kind::ForgetCached).map_err(|f| f.error)?;
        if state.lie != Some(Lie::Cache) {
            let file = &mut state.files[self.id];
            // Pages that are dirty stay.
            if file.writes.is_empty() {
                file.cached.clone_from(&file.device);
            }
        }
        Ok(())
    }

    fn map(&self, _bytes: u64, _access: Access) -> io::Result<Option<Map>> {
        locked(&self.disk.state).begin(Kind::Map).map_err(|f| f.error)?;
        Ok(None)
    }
}
