//! The members of a tar archive, one after the other. What stands before each (long names, attributes, sizes, the map of its holes) is read here,
//! for it is bounded by nothing else: an archive is not trusted.

use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// More than a long name, a long link and all attributes of a file.
const MOST_EXTENSION: u64 = 1024 * 1024;
/// Blocks of a map, each of 21 parts.
const MOST_MAP: usize = 32 * 1024;
const BLOCK: u64 = 512;

/// Reads what is in the member at hand.
pub(super) struct Members {
    inner: Box<dyn Read>,
    /// What was not read of the member at hand.
    left: u64,
    /// Behind it, to the next block.
    padding: u64,
}

pub(super) struct Member {
    pub(super) header: Header,
    pub(super) more: Extension,
    /// Of a file with holes, where the bytes that are there belong.
    pub(super) map: Option<Map>,
}

/// Parts of a file by offset and length, one behind the other; between them are holes.
pub(super) struct Map {
    pub(super) parts: Vec<(u64, u64)>,
    pub(super) size: u64,
}

/// What headers before a member say of it.
#[derive(Default)]
pub(super) struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, i64)>,
    pub(super) attributes: Vec<(String, Vec<u8>)>,
}

impl Members {
    pub(super) fn new(inner: Box<dyn Read>) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
        }
    }

    /// `None` behind the last one. What was not read of the one before is passed over.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut more = Extension::default();
        let mut before = 0;
        loop {
            io::copy(self, &mut io::sink())?;
            io::copy(&mut (&mut self.inner).take(self.padding), &mut io::sink())?;
            self.padding = 0;
            let mut header = Header::new_old();
            if !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|b| *b == 0) {
                return Ok(None);
            }
            check(&header)?;
            let (kind, size) = (header.entry_type(), header.entry_size()?);
            if !is_extension(kind) {
                let size = more.size.unwrap_or(size);
                let map = match kind {
                    EntryType::GNUSparse => Some(self.map(&header, size)?),
                    _ => None,
                };
                self.begin(size)?;
                return Ok(Some(Member { header, more, map }));
            }
            before += size.min(MOST_EXTENSION) + BLOCK;
            if size > MOST_EXTENSION || before > 4 * MOST_EXTENSION {
                return Err(bad(format!("an extension of {size} bytes")));
            }
            self.begin(size)?;
            let mut bytes = Vec::new();
            self.read_to_end(&mut bytes)?;
            more.read(kind, bytes)?;
        }
    }

    /// All that is behind the last member.
    pub(super) fn into_inner(self) -> Box<dyn Read> {
        self.inner
    }

    fn begin(&mut self, size: u64) -> io::Result<()> {
        let whole = size.checked_next_multiple_of(BLOCK);
        let whole = whole.ok_or_else(|| bad(format!("a member of {size} bytes")))?;
        (self.left, self.padding) = (size, whole - size);
        Ok(())
    }

    /// False at the end.
    fn block(&mut self, block: &mut [u8]) -> io::Result<bool> {
        let n = self.inner.read(&mut block[..1])?;
        if n == 1 {
            self.inner.read_exact(&mut block[1..])?;
        }
        Ok(n == 1)
    }

    /// The map of a member of which `stored` bytes are in the archive.
    fn map(&mut self, header: &Header, stored: u64) -> io::Result<Map> {
        let gnu = header
            .as_gnu()
            .ok_or_else(|| bad("holes without a map".into()))?;
        let mut map = Map {
            parts: vec![],
            size: gnu.real_size()?,
        };
        map.add(&gnu.sparse)?;
        let mut goes_on = gnu.is_extended();
        for _ in 0..MOST_MAP {
            if !goes_on {
                break;
            }
            let mut block = GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            map.add(&block.sparse)?;
            goes_on = block.is_extended();
        }
        let sum = map
            .parts
            .iter()
            .try_fold(0, |sum: u64, (_, length)| sum.checked_add(*length));
        let end = map
            .parts
            .last()
            .map_or(0, |(offset, length)| offset + length);
        if goes_on || sum != Some(stored) || end > map.size {
            return Err(bad("a map of holes that cannot be".into()));
        }
        Ok(map)
    }
}

impl Read for Members {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        // A decoder takes a look into nothing for a mistake.
        if most == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl Member {
    pub(super) fn path(&self) -> Vec<u8> {
        let named = self.more.path.clone();
        named.unwrap_or_else(|| self.header.path_bytes().into_owned())
    }

    pub(super) fn link(&self) -> Option<Vec<u8>> {
        let named = self.more.link.clone();
        named.or_else(|| Some(self.header.link_name_bytes()?.into_owned()))
    }
}

impl Map {
    fn add(&mut self, found: &[GnuSparseHeader]) -> io::Result<()> {
        for part in found.iter().filter(|part| !part.is_empty()) {
            let (offset, length) = (part.offset()?, part.length()?);
            let before = self
                .parts
                .last()
                .map_or(0, |(offset, length)| offset + length);
            if offset < before || offset.checked_add(length).is_none() {
                return Err(bad("a map of holes that cannot be".into()));
            }
            self.parts.push((offset, length));
        }
        Ok(())
    }
}

impl Extension {
    fn read(&mut self, kind: EntryType, bytes: Vec<u8>) -> io::Result<()> {
        match kind {
            EntryType::GNULongName => self.path = Some(without_end(bytes)),
            EntryType::GNULongLink => self.link = Some(without_end(bytes)),
            EntryType::XHeader => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (key, value, behind) =
                        record(rest).ok_or_else(|| bad("an extension that is none".into()))?;
                    self.take(key, value)?;
                    rest = behind;
                }
            }
            // What holds for all members is comments.
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let Ok(key) = std::str::from_utf8(key) else {
            return Ok(());
        };
        let text = std::str::from_utf8(value).ok();
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "mtime" => self.mtime = text.and_then(time),
            "uid" => self.uid = text.and_then(|t| t.parse().ok()),
            "gid" => self.gid = text.and_then(|t| t.parse().ok()),
            "size" => {
                let size = text.and_then(|t| t.parse().ok());
                self.size = Some(size.ok_or_else(|| bad("a size that is no number".into()))?);
            }
            _ if key.starts_with("GNU.sparse") => {
                let cure =
                    "a sparse file in pax's form; pack it with --format=gnu, or without --sparse";
                return Err(bad(cure.into()));
            }
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.attributes.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn bad(what: String) -> io::Error {
    io::Error::other(what)
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

/// The sum of its bytes, of which those of the sum count as spaces.
fn check(header: &Header) -> io::Result<()> {
    let bytes = header.as_bytes();
    let others = bytes[..148].iter().chain(&bytes[156..]);
    let sum = others.fold(8 * u32::from(b' '), |sum, b| sum + u32::from(*b));
    if header.cksum().ok() != Some(sum) {
        return Err(bad("it is no tar, or a header of it is damaged".into()));
    }
    Ok(())
}

/// The first of pax's records, `LENGTH KEY=VALUE\n`, and what is behind it. A value may hold any byte.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (whole, behind) = bytes.split_at_checked(length)?;
    let record = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], behind))
}

fn without_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Seconds and nanoseconds of `1500000000.123456789`.
fn time(text: &str) -> Option<(i64, i64)> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}");
    Some((seconds.parse().ok()?, nanos.get(..9)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A header whose sum is right, whatever is in it.
    fn summed(mut block: [u8; 512]) -> [u8; 512] {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        block
    }

    fn header(kind: u8, size: &[u8; 12], rest: &[u8], magic: &[u8; 8]) -> [u8; 512] {
        let mut block = [0; 512];
        block[0] = b'n';
        block[124..136].copy_from_slice(size);
        block[156] = kind;
        block[257..265].copy_from_slice(magic);
        block[345..345 + rest.len()].copy_from_slice(rest);
        summed(block)
    }

    fn block() -> impl Strategy<Value = [u8; 512]> {
        let octal = (0_u64..3000).prop_map(|n| {
            let mut size = [0; 12];
            size[..11].copy_from_slice(format!("{n:011o}").as_bytes());
            size
        });
        let size = prop_oneof![3 => octal, 1 => any::<[u8; 12]>()];
        let kind = prop::sample::select(b"0125xgLKS\0".to_vec());
        let magic = prop::sample::select(vec![*b"ustar\x0000", *b"ustar  \0", [0; 8]]);
        let rest = prop::collection::vec(prop::sample::select(b"01 \0\x80".to_vec()), 150);
        prop_oneof![
            4 => (kind, size, rest, magic).prop_map(|(k, s, r, m)| header(k, &s, &r, &m)),
            1 => prop::sample::select(b"9x =\n\0".to_vec()).prop_map(|byte| [byte; 512]),
        ]
    }

    proptest! {
        /// Whatever is in an archive, it is read to its end or refused; no more comes out of it than was in it.
        #[test]
        fn any_bytes_are_read_or_refused(blocks in prop::collection::vec(block(), 0..24), cut in 0_usize..512) {
            let mut bytes = blocks.concat();
            bytes.truncate(bytes.len().saturating_sub(cut));
            let length = bytes.len() as u64;
            let mut members = Members::new(Box::new(Cursor::new(bytes)));
            let mut read = 0;
            while let Ok(Some(member)) = members.next() {
                if let Some(map) = &member.map {
                    let ends: Vec<u64> = map.parts.iter().map(|(at, length)| at + length).collect();
                    prop_assert!(map.parts.iter().skip(1).zip(&ends).all(|((at, _), end)| at >= end));
                    prop_assert!(ends.last().is_none_or(|end| *end <= map.size));
                }
                match io::copy(&mut members, &mut io::sink()) {
                    Ok(n) => read += n,
                    Err(_) => break,
                }
            }
            prop_assert!(read <= length);
        }
    }

    #[test]
    fn a_record_is_as_long_as_it_says() {
        let two = b"9 a=b\nc=\n12 path=x=y\n";
        let (key, value, behind) = record(two).expect("one");
        assert_eq!((key, value), (&b"a"[..], &b"b\nc="[..]));
        assert_eq!(record(behind), Some((&b"path"[..], &b"x=y"[..], &b""[..])));
        for odd in [
            "", "6 a=b", "99 a=b\n", "3 \n", "6 ab\n", "x a=b\n", "0 a=b\n",
        ] {
            assert_eq!(record(odd.as_bytes()), None, "{odd}");
        }
    }
}
