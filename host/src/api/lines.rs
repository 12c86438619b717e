//! The lines of a body, cut as it comes in: numbered, bounded, and never more of them in memory than were asked for.

use super::error::{Code, Place, Problem};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;

/// What a body of lines may be at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a line.
    pub(crate) line: usize,
    /// Lines that are not blank.
    pub(crate) lines: u64,
    /// Bytes in all.
    pub(crate) total: u64,
}

/// What came in and was not taken out yet.
#[derive(Debug)]
pub(crate) struct Lines {
    limits: Limits,
    buffer: BytesMut,
    /// So much of the buffer holds no newline.
    searched: usize,
    /// The last line's, from 1, blank ones counted.
    number: u64,
    taken: u64,
    total: u64,
    whole: bool,
}

impl Lines {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            searched: 0,
            number: 0,
            taken: 0,
            total: 0,
            whole: false,
        }
    }

    /// Adds what came in.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.total += bytes.len() as u64;
        if self.total > self.limits.total {
            return Err(too_large(&self.limits));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Says that nothing more comes: what is left is a line, newline or not.
    pub(crate) fn finish(&mut self) {
        self.whole = true;
    }

    /// Whether nothing more comes.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The next line that is not blank; `None` where more has to come first, or nothing more does.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Bytes)>, Problem> {
        loop {
            let newline = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let length = match newline {
                Some(at) => self.searched + at,
                None => self.buffer.len(),
            };
            if length > self.limits.line {
                let sentence = format!("is longer than {}", ByteSize(self.limits.line as u64));
                return Err(Problem::new(Code::TooLarge, sentence).within(Place::Line(self.number + 1)));
            }
            if newline.is_none() && !(self.whole && length > 0) {
                self.searched = length;
                return Ok(None);
            }
            let line = self.buffer.split_to(length + usize::from(newline.is_some())).freeze();
            self.searched = 0;
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.taken += 1;
            if self.taken > self.limits.lines {
                let sentence = format!("a batch has at most {} tasks; send the rest as another", self.limits.lines);
                return Err(Problem::new(Code::TooLarge, sentence).within(Place::Line(self.number)));
            }
            return Ok(Some((self.number, line)));
        }
    }
}

/// Of a body that is too large as a whole.
pub(crate) fn too_large(limits: &Limits) -> Problem {
    Problem::new(
        Code::TooLarge,
        format!("the body is larger than {}; send it as more than one batch", ByteSize(limits.total)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        line: 8,
        lines: 4,
        total: 40,
    };

    /// Cuts a body that comes in pieces of `size` bytes.
    fn cut(text: &str, size: usize) -> Result<Vec<(u64, String)>, Problem> {
        let mut lines = Lines::new(LIMITS);
        let mut found = Vec::new();
        let mut take = |lines: &mut Lines| -> Result<(), Problem> {
            while let Some((number, line)) = lines.next()? {
                found.push((number, String::from_utf8(line.trim_ascii().to_vec()).unwrap()));
            }
            Ok(())
        };
        for piece in text.as_bytes().chunks(size) {
            lines.push(piece)?;
            take(&mut lines)?;
        }
        lines.finish();
        take(&mut lines)?;
        Ok(found)
    }

    #[test]
    fn lines_are_cut_and_numbered_however_they_come() {
        for size in [1, 2, 3, 40] {
            for (text, expected) in [
                ("", &[][..]),
                ("\n \r\n", &[]),
                ("a", &[(1, "a")]),
                ("a\n", &[(1, "a")]),
                ("a\r\n\r\n  \nb\r\nc", &[(1, "a"), (4, "b"), (5, "c")]),
                ("12345678\n12345678", &[(1, "12345678"), (2, "12345678")]),
                ("\n\na\nb\nc\nd\n\n", &[(3, "a"), (4, "b"), (5, "c"), (6, "d")]),
            ] {
                let expected: Vec<(u64, String)> = expected.iter().map(|(number, line)| (*number, (*line).to_owned())).collect();
                assert_eq!(cut(text, size).unwrap(), expected, "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn what_is_too_long_or_too_much_is_refused_where_it_is() {
        for size in [1, 2, 3, 50] {
            for (text, line, word) in [
                ("a\n123456789\n", Some(2), "longer than 8 B"),
                ("a\n\n123456789", Some(3), "longer than 8 B"),
                ("a\nb\n\nc\nd\ne", Some(6), "at most 4 tasks"),
                (&"\n".repeat(41), None, "larger than 40 B"),
            ] {
                let problem = cut(text, size).expect_err(text);
                let found = problem.errors.first().and_then(|complaint| complaint.line);
                assert_eq!((problem.code, found), (Code::TooLarge, line), "{text:?} by {size}");
                assert!(problem.detail.contains(word), "{}", problem.detail);
            }
        }
    }
}
