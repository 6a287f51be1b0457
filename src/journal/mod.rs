//! The journal of this node: where its files are, and what they tell of a window of time.
//!
//! journald writes one file at a time, gives it another name when it is full or old, and removes the oldest. Nothing of
//! that waits for a reader: a file may go away, be cut, or get another name between any two looks at it. So a file is known
//! by the id in its header, at most one is open at a time, and the directories are listed again until nothing is new.

mod find;
mod lost;
mod run;

use jiff::Timestamp;

use crate::host::{Error, Host, optional, printable};
use crate::parse::journal::{self as file, Fault, Id, Reader};

/// What is wanted of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// `FIELD=value`, any of them; none: every entry.
    pub matches: &'a [&'a [u8]],
    /// The first moment of the window, to the microsecond.
    pub since: Timestamp,
    /// The last one. Somewhat later than now: clocks are set.
    pub until: Timestamp,
}

/// One entry that matches.
pub struct Entry<'a> {
    /// When journald got it.
    pub at: Timestamp,
    /// Microseconds since the boot, likewise.
    pub monotonic: u64,
    /// The boot.
    pub boot_id: Id,
    /// Its number in the journal: within one boot later ones have larger ones.
    pub seqnum: u64,
    /// Which match it came by; the first, if by several.
    pub by: usize,
    /// `MESSAGE=`. Any bytes.
    pub message: &'a [u8],
    fields: &'a mut dyn Fields,
}

impl Entry<'_> {
    /// The value of another field (`PRIORITY`, `_SYSTEMD_UNIT`, ...), if it has one that can be read.
    pub fn field(&mut self, name: &str) -> Option<Vec<u8>> {
        self.fields.field(name.as_bytes()).ok().flatten()
    }
}

trait Fields {
    fn field(&mut self, name: &[u8]) -> Result<Option<Vec<u8>>, Fault>;
}

/// What the journal told beside its entries: how far it can be trusted to be all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The oldest entry that is retained, of whatever unit. `None`: there is none.
    pub begins: Option<Timestamp>,
    /// The newest one that is not later than the window, of whatever unit.
    pub newest: Option<Timestamp>,
    /// How many entries matched and were handed out.
    pub matched: u64,
    /// How many of those that match are later than the window. About: where many follow each other, an entry may count for
    /// each match that it came by.
    pub later: u64,
    /// Messages that journald dropped inside the window since a unit wrote too many: of the units that are matched, or of all
    /// if something else than units is.
    pub dropped: u64,
    /// Messages of the kernel that journald missed inside the window, if those are matched.
    pub missed_kernel: u64,
    /// Parts of files that are not as they should be, and were left out.
    pub broken: u64,
    /// Entries whose message is compressed with XZ, or larger than 1 MiB: they were left out.
    pub unread: u64,
    /// Whether there were more than [`MOST_ENTRIES`]: the newest were left out.
    pub is_cut: bool,
    /// What became of the files.
    pub files: Files,
    /// Why files could not be read that may hold something of the window: the first of them.
    pub unreadable: Vec<Error>,
}

/// Numbers of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Files {
    /// Those that were looked through.
    pub read: usize,
    /// Those of them that journald removed meanwhile, before all of it was read: what was in them is no longer retained.
    pub removed: usize,
    /// Those that hold nothing of the window, by their headers.
    pub outside: usize,
    /// Those that are listed in [`Told::unreadable`], and more of that kind.
    pub unreadable: usize,
}

/// So many entries are handed out.
pub const MOST_ENTRIES: u64 = 200_000;

/// The journal of a node.
#[derive(Debug)]
pub struct Journal<'h> {
    host: &'h Host,
    dirs: Vec<String>,
}

impl<'h> Journal<'h> {
    /// Finds the directories of this machine's journal. Absent if there is none at all.
    pub fn open(host: &'h Host) -> Result<Journal<'h>, Error> {
        Ok(Journal { host, dirs: find::dirs(host)? })
    }

    /// The directories that are read; one of them may not be there.
    pub fn dirs(&self) -> &[String] {
        &self.dirs
    }

    /// Whether any entry that is retained matches, whenever it was written.
    pub fn knows(&self, matches: &[&[u8]]) -> Result<bool, Error> {
        let mut trouble = None;
        for path in find::files(self.host, &self.dirs)? {
            let Some(file) = optional(self.host.open_file(&path))? else { continue };
            let found = Reader::open(&file).and_then(|mut reader| {
                let mut walk = reader.walk(matches, 0, u64::MAX)?;
                walk.next(&mut reader, &mut file::Entry::default())
            });
            match found {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(true),
                Err(fault) => trouble = Some(Error::Failed(format!("{}: {fault}", printable(&path)))),
            }
        }
        trouble.map_or(Ok(false), Err)
    }

    /// Hands every entry of the window that matches to `each`: the files in the order of their first entries, in each the
    /// oldest first.
    pub fn each(&self, query: &Query<'_>, each: &mut dyn FnMut(&mut Entry<'_>)) -> Result<Told, Error> {
        run::run(self.host, &self.dirs, query, each)
    }
}

/// Microseconds since 1970.
fn microseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_microsecond()).unwrap_or(0)
}

fn timestamp(microseconds: u64) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::try_from(microseconds).ok()?).ok()
}
