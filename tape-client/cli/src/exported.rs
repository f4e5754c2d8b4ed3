//! Verifies files that `tape export` wrote, offline and line by line.
//!
//! The section Export of docs/format.md has the form of a file. Only one stream is held at a time; of those before, what was found.

mod line;
mod open;

use line::Line;
use open::OpenStream;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};
use tape_client::core::id::{Seq, StreamId};
use tape_client::core::payload::Digest;

use crate::stream::Sound;

/// The published heads of each stream.
pub type Heads = BTreeMap<StreamId, Vec<(Seq, Digest)>>;

/// Most bytes of a line. A longer one is not read, which is not damage.
pub const LINE_BYTES_MAX: usize = 1 << 26;
/// Most findings about the file itself: one that is no export has something wrong in every line.
const FINDINGS_MAX: usize = 20;

/// What was found in a file.
#[derive(Debug, Default)]
pub struct Exported {
    /// Of each stream by its full name: what is verified, or what is broken.
    pub streams: BTreeMap<String, Result<Sound, String>>,
    /// What is broken in the file outside its streams.
    pub broken: Vec<String>,
    /// What was not read outside its streams.
    pub unread: Vec<String>,
}

/// What a file proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All that is in it.
    Proved,
    /// Not all that is in it, and nothing is broken.
    NotProved,
    /// Something is broken.
    Broken,
}

impl Exported {
    /// The verdict on the file.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let streams = self.streams.values().map(|found| match found {
            Err(_) => Verdict::Broken,
            Ok(sound) if sound.is_proved() => Verdict::Proved,
            Ok(_) => Verdict::NotProved,
        });
        let broken = self.broken.iter().map(|_| Verdict::Broken);
        let unread = self.unread.iter().map(|_| Verdict::NotProved);
        streams
            .chain(broken)
            .chain(unread)
            .max()
            .unwrap_or(Verdict::Proved)
    }
}

/// Verifies a file, and that it has every stream of which a head was published.
///
/// # Errors
/// Where the file cannot be read. What is broken in it is no error.
pub fn verify(file: &mut dyn BufRead, published: &Heads) -> io::Result<Exported> {
    let mut reader = Reader {
        published,
        found: Exported::default(),
        open: None,
        is_whole: false,
    };
    let (mut bytes, mut number) = (Vec::new(), 0);
    while let Some(fits) = read_line(file, &mut bytes)? {
        number += 1;
        if fits {
            if let Err(problem) = reader.take(&bytes) {
                reader.broken(format!("line {number}: {problem}"));
            }
        } else {
            reader.unread(format!(
                "line {number} is longer than {LINE_BYTES_MAX} bytes, and was not read"
            ));
        }
    }
    Ok(reader.finish())
}

/// Reads the next line, and tells whether it fits; none at the end of the file.
fn read_line(file: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let mut next = |line: &mut Vec<u8>| (&mut *file).take(LINE_BYTES_MAX as u64).read_until(b'\n', line);
    if next(line)? == 0 {
        return Ok(None);
    }
    let fits = line.ends_with(b"\n") || line.len() < LINE_BYTES_MAX;
    while !fits && !line.ends_with(b"\n") {
        line.clear();
        if next(line)? == 0 {
            break;
        }
    }
    Ok(Some(fits))
}

struct Reader<'a> {
    published: &'a Heads,
    found: Exported,
    /// The stream that is being read.
    open: Option<OpenStream>,
    /// Whether the file's last line was read.
    is_whole: bool,
}

impl Reader<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let line = Line::parse(bytes)?;
        if self.is_whole {
            return Err("it comes after the last line of the file".to_owned());
        }
        match line {
            Line::Stream(line) => {
                // A stream that begins anew replaces what was read of it.
                self.open.take_if(|open| open.name() == line.stream);
                self.close(false);
                self.found.streams.remove(&line.stream);
                self.open = Some(OpenStream::begin(line, self.published));
            }
            Line::Entry(line) => {
                let open = self.open.as_mut().ok_or("it is an entry of no stream")?;
                open.entry(line);
            }
            Line::End(line) => {
                let named = self.open.as_mut().filter(|open| open.name() == line.end);
                let open = named.ok_or("it ends a stream that does not stand before it")?;
                if let Some(broken) = line.broken {
                    open.broken(format!("the export says: {broken}"));
                }
                self.close(true);
            }
            Line::Footer(line) => {
                self.close(false);
                self.is_whole = true;
                let streams = self.found.streams.len() as u64;
                if line.streams != streams {
                    let said = line.streams;
                    return Err(format!("the export had {said} streams, the file has {streams}"));
                }
                if line.broken > 0 {
                    return Err(format!("the export found something broken {} times", line.broken));
                }
            }
        }
        Ok(())
    }

    /// Ends the stream that is being read.
    fn close(&mut self, at_its_end: bool) {
        if let Some(mut open) = self.open.take() {
            if !at_its_end {
                open.broken("the line that ends it is missing".to_owned());
            }
            let (name, found) = open.finish();
            self.found.streams.insert(name, found);
        }
    }

    fn broken(&mut self, what: String) {
        match &mut self.open {
            Some(open) => open.broken(what),
            None if self.found.broken.len() < FINDINGS_MAX => self.found.broken.push(what),
            None => {}
        }
    }

    fn unread(&mut self, what: String) {
        match &mut self.open {
            Some(open) => open.unread(&what),
            None if self.found.unread.len() < FINDINGS_MAX => self.found.unread.push(what),
            None => {}
        }
    }

    fn finish(mut self) -> Exported {
        self.close(false);
        if !self.is_whole {
            let cut = "the file was cut off: its last line, with the number of streams, is missing";
            self.broken(cut.to_owned());
        }
        for stream in self.published.keys() {
            let missing = || Err("a head of it was published, and the file does not have it".to_owned());
            self.found
                .streams
                .entry(stream.to_string())
                .or_insert_with(missing);
        }
        self.found
    }
}
