//! Ids. A node has tens of thousands, so they are kept small.

use std::cmp::Ordering;
use std::fmt;

/// An id, in the order of its text: 64 hex digits where containerd made it, kept as the bytes that they stand for.
#[derive(Clone, PartialEq, Eq)]
pub struct Id(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Digits([u8; 32]),
    Other(Box<str>),
}

impl From<&str> for Id {
    fn from(text: &str) -> Id {
        Id(bytes(text).map_or_else(|| Form::Other(text.into()), Form::Digits))
    }
}

/// `None` for what is not 64 digits as Go prints them.
fn bytes(text: &str) -> Option<[u8; 32]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let [high, low] = digits else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    (text.len() == 64).then_some(bytes)
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Digits(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Form::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Ord for Id {
    fn cmp(&self, other: &Id) -> Ordering {
        match (&self.0, &other.0) {
            (Form::Digits(one), Form::Digits(other)) => one.cmp(other),
            (Form::Other(one), Form::Other(other)) => one.cmp(other),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }
}

impl PartialOrd for Id {
    fn partial_cmp(&self, other: &Id) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_texts() {
        let (a, b) = ("0a1f".repeat(16), "0a1f".repeat(15) + "0b00");
        let (upper, short, long) = (a.to_uppercase(), "a".repeat(63), format!("{a}0"));
        let odd = format!("{}é", "a".repeat(62));
        let mut texts = vec!["", "0", "id", "zz", &a, &b, &upper, &short, &long, &odd, "\u{fffd}"];
        let mut ids: Vec<Id> = texts.iter().copied().map(Id::from).collect();
        texts.sort_unstable();
        ids.sort_unstable();
        assert_eq!(ids.iter().map(Id::to_string).collect::<Vec<_>>(), texts);
        assert_eq!(ids.iter().filter(|id| matches!(id.0, Form::Digits(_))).count(), 2);
        assert_eq!(format!("{:?}", Id::from("x\n")), r#""x\n""#);
    }
}
