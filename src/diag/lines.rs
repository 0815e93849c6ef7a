//! Lines and columns, counted once a file, and only in files that have findings.

use super::{Place, SourceText};
use std::collections::HashMap;

/// Line and column, both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The line starts of the files that were asked for.
pub(crate) struct Lines<'a> {
    files: &'a [SourceText],
    starts: HashMap<usize, Vec<usize>>,
    /// Characters before each block of a file: a line may be as long as the file, and all findings on it.
    characters: HashMap<usize, Vec<usize>>,
}

/// Bytes of a block.
const BLOCK: usize = 1024;

/// How many characters begin in so many bytes.
fn characters(bytes: &[u8]) -> usize {
    let begins = |byte: &&u8| !matches!(byte, 0x80..=0xbf);
    bytes.iter().filter(begins).count()
}

impl<'a> Lines<'a> {
    pub(crate) fn new(files: &'a [SourceText]) -> Self {
        Self {
            files,
            starts: HashMap::new(),
            characters: HashMap::new(),
        }
    }

    fn starts(&mut self, file: usize) -> &[usize] {
        let files = self.files;
        self.starts.entry(file).or_insert_with(|| {
            let newlines = files[file].text.bytes().enumerate();
            let behind = newlines.filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
            std::iter::once(0).chain(behind).collect()
        })
    }

    /// Number of the line that holds a byte, from 0, and the line's bytes without its end.
    pub(crate) fn line(&mut self, file: usize, at: usize) -> (usize, std::ops::Range<usize>) {
        let text = &self.files[file].text;
        let starts = self.starts(file);
        let number = starts.partition_point(|s| *s <= at).saturating_sub(1);
        let end = starts.get(number + 1).map_or(text.len(), |next| next - 1);
        (number, starts[number]..end)
    }

    /// Characters of a file that begin before a byte.
    fn characters_before(&mut self, file: usize, at: usize) -> usize {
        let text = self.files[file].text.as_bytes();
        let blocks = self.characters.entry(file).or_insert_with(|| {
            let counts = text.chunks(BLOCK).map(characters);
            counts
                .scan(0, |sum, count| {
                    *sum += count;
                    Some(*sum - count)
                })
                .collect()
        });
        let block = (at / BLOCK).min(blocks.len().saturating_sub(1));
        let before = blocks.get(block).copied().unwrap_or_default();
        before + characters(&text[block * BLOCK..at])
    }

    pub(super) fn position(&mut self, file: usize, at: usize) -> Position {
        let text = &self.files[file].text;
        let at = boundary(text, at);
        let (number, line) = self.line(file, at);
        let before = self.characters_before(file, at);
        let column = before - self.characters_before(file, line.start) + 1;
        Position {
            line: number + 1,
            column,
        }
    }

    /// Where a place begins and ends.
    pub(super) fn span(&mut self, place: &Place) -> (Position, Position) {
        let start = self.position(place.file, place.start);
        (start, self.position(place.file, place.end.max(place.start)))
    }
}

/// The nearest character's start at or before a byte.
pub(super) fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
