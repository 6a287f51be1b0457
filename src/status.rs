//! The four states of the plugin interface and their order.

use serde::{Deserialize, Serialize};

/// What a check found, in the words of the Monitoring Plugins guidelines.
///
/// There is deliberately no `Ord`: the number (0 to 3) and the gravity are two different orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Measured, and within every range.
    Ok,
    /// Needs somebody's attention in working hours.
    Warning,
    /// Needs somebody now.
    Critical,
    /// Could not be measured.
    Unknown,
}

impl Status {
    /// Every status, gravest first: a failed measurement is never hidden behind a warning, and never hides a critical.
    pub const BY_GRAVITY: [Status; 4] = [Status::Critical, Status::Unknown, Status::Warning, Status::Ok];

    /// The plugin's exit code and NRPE's result code, 0 to 3.
    pub fn code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::Warning => 1,
            Status::Critical => 2,
            Status::Unknown => 3,
        }
    }

    /// The status of an exit code; everything outside 0 to 3 is UNKNOWN.
    pub fn from_code(code: u8) -> Status {
        match code {
            0 => Status::Ok,
            1 => Status::Warning,
            2 => Status::Critical,
            _ => Status::Unknown,
        }
    }

    /// The word on the first line of a plugin's output.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::Warning => "WARNING",
            Status::Critical => "CRITICAL",
            Status::Unknown => "UNKNOWN",
        }
    }

    /// Position in [`Status::BY_GRAVITY`]: 0 is the gravest.
    pub fn rank(self) -> usize {
        Self::BY_GRAVITY.iter().position(|&s| s == self).unwrap_or(0)
    }

    /// The graver of two.
    pub fn worst(self, other: Status) -> Status {
        if other.rank() < self.rank() { other } else { self }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::Status::*;
    use super::*;

    #[test]
    fn worst_of_is_critical_unknown_warning_ok() {
        assert_eq!(Status::BY_GRAVITY, [Critical, Unknown, Warning, Ok]);
        for (a, b, worst) in [
            (Ok, Warning, Warning),
            (Warning, Unknown, Unknown),
            (Unknown, Critical, Critical),
            (Critical, Ok, Critical),
            (Ok, Ok, Ok),
        ] {
            assert_eq!(a.worst(b), worst);
            assert_eq!(b.worst(a), worst);
        }
    }

    #[test]
    fn codes_are_the_plugin_interfaces() {
        assert_eq!([Ok, Warning, Critical, Unknown].map(Status::code), [0, 1, 2, 3]);
        for status in Status::BY_GRAVITY {
            assert_eq!(Status::from_code(status.code()), status);
        }
        assert_eq!(Status::from_code(4), Unknown);
        assert_eq!(Status::from_code(255), Unknown);
    }
}
