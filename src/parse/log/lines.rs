//! Lines of a text that comes in pieces.

/// So much of a line is kept.
pub const LONGEST: usize = 1 << 20;

/// Cuts a text in lines, without their newlines. Zeros at the beginning of a line are left out: a file has such ones where
/// the node lost its power, and where it was emptied under somebody who wrote on.
#[derive(Debug)]
pub struct Lines {
    longest: usize,
    /// What was seen of a line that is not whole.
    begun: Vec<u8>,
    /// Whether more of it was seen than is kept.
    is_cut: bool,
    /// Whether zeros stood before it.
    has_zeros: bool,
    /// Lines that were cut, and places of zeros.
    pub broken: u64,
}

impl Lines {
    /// Cuts lines that are longer.
    pub fn new(longest: usize) -> Lines {
        Lines { longest, begun: Vec::new(), is_cut: false, has_zeros: false, broken: 0 }
    }

    /// Takes the next piece. `each` gets the lines that end in it, and whether more of one was cut off.
    pub fn feed(&mut self, piece: &[u8], each: &mut dyn FnMut(&[u8], bool)) {
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            if self.begun.is_empty() && line.len() <= self.longest && line.first().is_some_and(|first| *first != 0) {
                // As nearly all are: nothing needs to be copied.
                self.has_zeros = false;
                each(line, false);
            } else {
                self.add(line);
                self.end(each);
            }
            rest = after.get(1..).unwrap_or_default();
        }
        self.add(rest);
    }

    /// No piece follows: what no newline follows is a line, too.
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8], bool)) {
        if !self.begun.is_empty() || self.has_zeros {
            self.end(each);
        }
    }

    /// Many zeros follow, and are left out: a line before them has its end there.
    pub fn end_at_zeros(&mut self, each: &mut dyn FnMut(&[u8], bool)) {
        if !self.begun.is_empty() {
            self.end(each);
        }
        self.skip_zeros();
    }

    fn skip_zeros(&mut self) {
        if self.begun.is_empty() && !self.has_zeros {
            self.has_zeros = true;
            self.broken = self.broken.saturating_add(1);
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let mut piece = piece;
        if self.begun.is_empty() {
            let zeros = piece.iter().take_while(|byte| **byte == 0).count();
            if zeros > 0 {
                self.skip_zeros();
                piece = piece.get(zeros..).unwrap_or_default();
            }
        }
        let kept = piece.get(..self.longest.saturating_sub(self.begun.len())).unwrap_or(piece);
        self.begun.extend_from_slice(kept);
        if kept.len() < piece.len() && !self.is_cut {
            self.is_cut = true;
            self.broken = self.broken.saturating_add(1);
        }
    }

    fn end(&mut self, each: &mut dyn FnMut(&[u8], bool)) {
        if !(self.begun.is_empty() && self.has_zeros) {
            each(&self.begun, self.is_cut);
        }
        self.begun.clear();
        // One long line shall not hold its memory for ever.
        self.begun.shrink_to(64 << 10);
        (self.is_cut, self.has_zeros) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &[u8]) -> (Vec<String>, u64) {
        let (mut lines, mut all) = (Lines::new(4), Vec::new());
        let mut each =
            |line: &[u8], cut: bool| all.push(format!("{}{}", line.escape_ascii(), if cut { "+" } else { "" }));
        lines.feed(text, &mut each);
        lines.finish(&mut each);
        (all, lines.broken)
    }

    #[test]
    fn lines_and_what_is_none() {
        for (text, want, broken) in [
            (&b""[..], &[][..], 0),
            (b"a\nb\n", &["a", "b"], 0),
            (b"a\n\nb", &["a", "", "b"], 0),
            (b"\n", &[""], 0),
            (b"abcd\nabcde\nabcdefgh", &["abcd", "abcd+", "abcd+"], 2),
            (b"\0\0\0\0\0\0abc\nx\n", &["abc", "x"], 1),
            (b"x\n\0\0\0\0\0\0", &["x"], 1),
            (b"\0\0\n\0\ny", &["y"], 2),
            (b"a\0b\n", &["a\\x00b"], 0),
            (b"a\r\n", &["a\\r"], 0),
        ] {
            let want: Vec<String> = want.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(told(text), (want, broken), "{}", text.escape_ascii());
        }
    }
}
