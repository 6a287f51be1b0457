//! Commands that run in turns, and what they cost.

use std::error::Error;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::libc;

/// One command and what it cost so far.
pub struct Entry {
    name: String,
    work: Work,
    milliseconds: Vec<f64>,
    kib: i64,
}

enum Work {
    /// A process a run, and the exit codes it may have.
    Process(Command, &'static [i32]),
    /// One process for all runs, which is asked.
    Asked(Asked),
}

/// A process that answers each line with the milliseconds of CPU time that its work took.
struct Asked {
    child: Child,
    /// `None` once it is to end.
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What a command cost.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Median of user and system time, of the process and of those that it waited for.
    pub milliseconds: f64,
    /// The most memory that one of them held; never less than this program, from which they are started.
    pub megabytes: f64,
}

impl Cost {
    pub fn time(&self) -> String {
        let digits = match self.milliseconds {
            ..1.0 => 3,
            ..100.0 => 1,
            _ => 0,
        };
        format!("{:.digits$} ms", self.milliseconds)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {:.1} MB", self.time(), self.megabytes)
    }
}

impl Entry {
    pub fn new(name: &str, mut command: Command, codes: &'static [i32]) -> Entry {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Entry::of(name, Work::Process(command, codes))
    }

    /// A process that is started now and asked again and again; its memory is not measured.
    pub fn asked(name: &str, mut command: Command) -> Result<Entry, Box<dyn Error>> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take().ok_or("no output")?);
        Ok(Entry::of(name, Work::Asked(Asked { child, questions, answers: BufReader::new(answers) })))
    }

    fn of(name: &str, work: Work) -> Entry {
        Entry { name: name.to_owned(), work, milliseconds: Vec::new(), kib: 0 }
    }

    fn run(&mut self) -> Result<(), Box<dyn Error>> {
        let (milliseconds, kib) = match &mut self.work {
            Work::Process(command, codes) => {
                let (code, milliseconds, kib) = wait(command.spawn()?.id())?;
                if !code.is_some_and(|code| codes.contains(&code)) {
                    return Err(format!("{}: exit code {code:?}: {command:?}", self.name).into());
                }
                (milliseconds, kib)
            }
            Work::Asked(asked) => (asked.ask().map_err(|error| format!("{}: {error}", self.name))?, 0),
        };
        self.milliseconds.push(milliseconds);
        self.kib = self.kib.max(kib);
        Ok(())
    }

    fn cost(&mut self) -> Cost {
        self.milliseconds.sort_by(f64::total_cmp);
        let milliseconds = self.milliseconds.get(self.milliseconds.len() / 2).copied().unwrap_or(f64::NAN);
        Cost { milliseconds, megabytes: self.kib as f64 * 1024.0 / 1e6 }
    }
}

impl Asked {
    fn ask(&mut self) -> Result<f64, Box<dyn Error>> {
        self.questions.as_mut().ok_or("it has ended")?.write_all(b"\n")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().parse().map_err(|_| format!("no answer but {answer:?}"))?)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.child.wait();
    }
}

/// Runs each of them so many times, in turns, so that whatever else the machine does meets all alike. The order changes
/// from round to round: what ran before leaves caches behind that are warm, or cold.
pub fn run(entries: &mut [Entry], runs: usize) -> Result<Vec<Cost>, Box<dyn Error>> {
    // The first run makes the past and fills the caches.
    for entry in entries.iter_mut() {
        entry.run()?;
        (entry.milliseconds, entry.kib) = (Vec::new(), 0);
    }
    let count = entries.len();
    // A stride without a common factor meets each once.
    let strides: Vec<usize> = (1..=count).filter(|stride| has_no_common_factor(*stride, count)).collect();
    for round in 0..runs {
        let stride = strides[round % strides.len()];
        for turn in 0..count {
            entries[(round + turn * stride) % count].run()?;
        }
    }
    Ok(entries.iter_mut().map(Entry::cost).collect())
}

fn has_no_common_factor(mut a: usize, mut b: usize) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// Waits for a child, and for those that it waited for: exit code, milliseconds of CPU time, KiB of the largest one.
fn wait(child: u32) -> Result<(Option<i32>, f64, i64), Box<dyn Error>> {
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are to values of our own that live longer than the call; all zeroes is a valid rusage.
    let (waited, usage) =
        unsafe { (libc::wait4(child.try_into()?, &mut status, 0, usage.as_mut_ptr()), usage.assume_init()) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let milliseconds = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok((code, milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime), usage.ru_maxrss))
}
