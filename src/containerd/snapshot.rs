//! One state of a database, read while containerd may be writing the next one.

use std::sync::atomic::{Ordering, fence};
use std::thread::sleep;
use std::time::Duration;

use super::{Database, open, unread};
use crate::host::{Error, OpenFile, printable};
use crate::parse::bolt::{Db, Fault, Meta};
use crate::parse::containerd::{Records, SKIPPED, records};

/// A walk of a usual database takes a millisecond, and commits are farther apart.
const TRIES: u32 = 40;
/// So long all tries together may take.
const PATIENCE: Duration = Duration::from_millis(2500);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// So often it is asked whether something was committed.
const STEP: Duration = Duration::from_millis(1);
/// A file that is being copied changes within this time.
const SETTLED: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What a database held at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// `None` where no meta page is valid.
    pub meta: Option<Meta>,
    /// The records, or what is damaged: containerd itself fails on that.
    pub read: Result<Records, String>,
    /// How often it was read before it had not changed meanwhile.
    pub tries: u32,
}

impl Database<'_> {
    /// Reads it until it is the same before and after. What can't be read safely, or at all, is an error; damage is none.
    pub fn snapshot(&mut self) -> Result<Snapshot, Error> {
        self.read().map_err(unread)
    }

    fn read(&mut self) -> Result<Snapshot, Error> {
        let begun = self.host.stopwatch();
        let mut pause = FIRST_PAUSE;
        for tries in 1..=TRIES {
            self.host.doing(&self.path);
            let meta = Meta::newest(&self.file);
            let read = match &meta {
                Ok(meta) => records(&self.tree(meta)),
                Err(_) => Ok(Records::default()),
            };
            // What was read must have been read before the metas are read again.
            fence(Ordering::SeqCst);
            let is_damaged = read.as_ref().err().or(meta.as_ref().err()).is_some_and(Fault::is_damage);
            match self.is_as_before(meta.as_ref().ok())?
                && !(is_damaged && self.is_being_written(meta.as_ref().ok())?)
            {
                true => {
                    let (meta, read) = match meta {
                        Ok(meta) => (Some(meta), read),
                        Err(fault) => (None, Err(fault)),
                    };
                    return Ok(Snapshot { meta, read: self.damage(read)?, tries });
                }
                false if self.has_passed(begun) => break,
                false => {
                    self.file.forget(false);
                    self.await_commit(pause);
                    pause = (pause * 3 / 2).min(LONGEST_PAUSE);
                }
            }
        }
        self.file.forget(true);
        Err(Error::Failed(format!("it is too busy: {} changed during every look at it", printable(&self.path))))
    }

    /// Whether somebody writes to it without regard to its readers, as a copy does that is being put back: a commit brings a
    /// new meta.
    fn is_being_written(&self, meta: Option<&Meta>) -> Result<bool, Error> {
        let before = self.file.stamp()?;
        if self.host.stopwatch().is_some() {
            sleep(SETTLED);
        }
        Ok(self.file.stamp()? != before && Meta::newest(&self.file).ok().as_ref() == meta)
    }

    /// Waits for the next commit, or for so long: a walk has most time right after one.
    fn await_commit(&self, pause: Duration) {
        let before = Meta::newest(&self.file).ok();
        let mut waited = Duration::ZERO;
        while waited < pause && Meta::newest(&self.file).ok() == before {
            sleep(STEP);
            waited += STEP;
        }
    }

    fn tree(&self, meta: &Meta) -> Db<'_, OpenFile<'_>> {
        Db::new(&self.file, meta.clone()).skipping(SKIPPED)
    }

    /// Whether nothing was committed since this snapshot.
    pub fn is_unchanged_since(&mut self, snapshot: &Snapshot) -> Result<bool, Error> {
        self.is_as_before(snapshot.meta.as_ref()).map_err(unread)
    }

    /// Whether the newest meta is still this one, and the file still the one of that name; opens another one.
    fn is_as_before(&mut self, before: Option<&Meta>) -> Result<bool, Error> {
        if !self.file.is_still_there()? {
            self.file = open(self.host, &self.path).map_err(|error| match error {
                Error::Absent(_) => Error::Failed(format!("{} was removed meanwhile", printable(&self.path))),
                error => error,
            })?;
            return Ok(false);
        }
        Ok(Meta::newest(&self.file).ok().as_ref() == before)
    }

    fn has_passed(&self, begun: Option<Duration>) -> bool {
        let passed = self.host.stopwatch().zip(begun).and_then(|(now, begun)| now.checked_sub(begun));
        passed.is_some_and(|passed| passed > PATIENCE)
    }

    fn damage(&self, read: Result<Records, Fault>) -> Result<Result<Records, String>, Error> {
        match read {
            Ok(records) => Ok(Ok(records)),
            Err(fault) if fault.is_damage() => Ok(Err(fault.to_string())),
            Err(Fault::Empty) => Err(Error::Failed(format!(
                "{} is empty (0 bytes): containerd would begin anew with it",
                printable(&self.path)
            ))),
            // The host's own error, which names the file.
            Err(Fault::Read(error)) => Err(error.downcast().unwrap_or_else(|error| Error::Failed(error.to_string()))),
            Err(fault) => Err(Error::Failed(format!("{}: {fault}", printable(&self.path)))),
        }
    }
}
