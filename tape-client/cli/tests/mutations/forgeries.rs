//! Changes of what a file says, as one who knows the format would make them: what is around a change is made to fit, so that the chain, the
//! journal's head or the numbers at the end do not show it. Only the published heads and the names do.

use crate::changes::Change;
use crate::journals::{Base, written};
use crate::random::Random;
use serde_json::{Value, json};
use tape_client::core::chain::{StreamTag, link, link_v1};
use tape_client::core::payload::Digest;

pub(crate) fn any(base: &Base, random: &mut Random) -> Change {
    let mut file = Forged {
        lines: base.lines.clone(),
        random,
    };
    let what = match file.random.below(17) {
        0 => file.truncate(),
        1 => file.leave_out_a_stream(),
        2 => file.swap_entries(),
        3 => file.rename(),
        4 => file.swap_names(),
        5 => file.swap_payloads(),
        6 => file.lose_a_payload(),
        7 => file.empty_a_payload(),
        8 => file.replace_head(),
        9 => file.change_footer(),
        10 => file.cut_and_compute(false),
        11 => file.cut_and_compute(true),
        12 => file.change_and_compute(),
        13 => file.change_end(),
        14 => file.replace_snapshot(),
        15 => file.move_an_entry(),
        _ => file.replace_bytes(),
    };
    Change::new(what, written(&file.lines))
}

pub(crate) struct Forged<'a> {
    pub(crate) lines: Vec<Value>,
    pub(crate) random: &'a mut Random,
}

impl Forged<'_> {
    /// A line with this member.
    fn any(&mut self, member: &str) -> usize {
        let has = (0..self.lines.len()).filter(|n| self.lines[*n].get(member).is_some());
        let has: Vec<usize> = has.collect();
        *self.random.of_all(&has)
    }

    /// The line that ends the stream of a line.
    fn end(&self, of: usize) -> usize {
        let rest = self.lines[of..].iter();
        of + rest.clone().position(|line| line.get("end").is_some()).unwrap()
    }

    /// The line that begins the stream of a line.
    pub(crate) fn begin(&self, of: usize) -> usize {
        let before = self.lines[..=of].iter();
        before
            .clone()
            .rposition(|line| line.get("stream").is_some())
            .unwrap()
    }

    /// The journal's head and snapshot become what the entries allow.
    pub(crate) fn fit(&mut self, begin: usize) {
        let last = self.lines[self.end(begin) - 1].clone();
        self.lines[begin]["head"] = match last.get("seq") {
            Some(seq) => json!({"seq": seq, "digest": last["digest"]}),
            None => Value::Null,
        };
        let end = last["seq"].as_u64().unwrap_or(0);
        if self.lines[begin]["snapshot"]["seq"].as_u64() > Some(end) {
            self.lines[begin]["snapshot"] = Value::Null;
        }
    }

    /// Computes the chain of a stream anew.
    pub(crate) fn compute(&mut self, begin: usize) {
        let stream = self.lines[begin]["stream"].as_str().unwrap().parse().unwrap();
        let tag = StreamTag::of(&stream);
        let mut previous: Option<Digest> = None;
        for n in begin + 1..self.end(begin) {
            let envelope = self.lines[n]["envelope"].as_str().unwrap().to_owned();
            // One that is not JSON has a chain, too.
            let read: Value = serde_json::from_str(&envelope).unwrap_or_default();
            let dropped = read["entry"]["body"]["previous"].as_str();
            let before = previous
                .unwrap_or_else(|| dropped.map_or_else(Digest::default, |text| text.parse().unwrap()));
            let digest = if read["v"] == 1 {
                link_v1(&before, envelope.as_bytes())
            } else {
                link(&tag, &before, envelope.as_bytes())
            };
            self.lines[n]["digest"] = digest.to_string().into();
            previous = Some(digest);
        }
    }

    /// The last entries are gone, and the journal's head with them.
    fn truncate(&mut self) -> String {
        let begin = self.any("stream");
        let end = self.end(begin);
        let keep = begin + 1 + self.random.below(end - begin - 1);
        self.lines.drain(keep..end);
        self.fit(begin);
        format!("the entries from line {} to {end} are cut off", keep + 1)
    }

    fn leave_out_a_stream(&mut self) -> String {
        let begin = self.any("stream");
        let end = self.end(begin);
        self.lines.drain(begin..=end);
        let last = self.lines.last_mut().unwrap();
        last["streams"] = (last["streams"].as_u64().unwrap() - 1).into();
        format!("the stream of line {} is left out", begin + 1)
    }

    fn swap_entries(&mut self) -> String {
        let (one, two) = (self.any("seq"), self.any("seq"));
        self.lines.swap(one, two);
        format!("the entries of lines {} and {} are swapped", one + 1, two + 1)
    }

    /// Another tenant, or another name at the end.
    fn rename(&mut self) -> String {
        let begin = self.any("stream");
        let end = self.end(begin);
        let old = self.lines[begin]["stream"].as_str().unwrap().to_owned();
        let (tenant, rest) = old.split_once('/').unwrap();
        let new = match self.random.below(3) {
            0 => format!("{}/{rest}", if tenant == "beta" { "gamma" } else { "beta" }),
            1 => format!("{old}x"),
            _ => old.to_uppercase(),
        };
        self.lines[begin]["stream"] = new.as_str().into();
        self.lines[end]["end"] = new.as_str().into();
        format!("{old} is called {new}")
    }

    fn swap_names(&mut self) -> String {
        let (one, two) = (self.any("stream"), self.any("stream"));
        let names = [one, two].map(|n| self.lines[n]["stream"].clone());
        for (begin, name) in [(one, &names[1]), (two, &names[0])] {
            let end = self.end(begin);
            self.lines[begin]["stream"] = name.clone();
            self.lines[end]["end"] = name.clone();
        }
        format!("the streams {} and {} change names", names[0], names[1])
    }

    fn swap_payloads(&mut self) -> String {
        let (one, two) = (self.any("payload"), self.any("payload"));
        let payload = self.lines[one]["payload"].take();
        self.lines[one]["payload"] = self.lines[two]["payload"].take();
        self.lines[two]["payload"] = payload;
        if one == two {
            return self.lose_a_payload();
        }
        format!("the bytes of lines {} and {} are swapped", one + 1, two + 1)
    }

    fn lose_a_payload(&mut self) -> String {
        let at = self.any("payload");
        self.lines[at].as_object_mut().unwrap().remove("payload");
        format!("the bytes of line {} are gone", at + 1)
    }

    fn empty_a_payload(&mut self) -> String {
        let at = self.any("seq");
        self.lines[at]["payload"] = "".into();
        format!("the bytes of line {} are none", at + 1)
    }

    fn replace_bytes(&mut self) -> String {
        let at = self.any("payload");
        let payload = ["AA==", "AAAA", "AB==", "AA=", "*", "AAA A"];
        let payload = *self.random.of_all(&payload);
        self.lines[at]["payload"] = payload.into();
        format!("the bytes of line {} are {payload}", at + 1)
    }

    fn replace_head(&mut self) -> String {
        let (one, two) = (self.any("stream"), self.any("stream"));
        self.lines[one]["head"] = if one == two {
            Value::Null
        } else {
            self.lines[two]["head"].clone()
        };
        format!("the head of line {} is that of line {}", one + 1, two + 1)
    }

    fn change_footer(&mut self) -> String {
        let (streams, broken) = (self.random.below(40), self.random.below(2));
        let last = self.lines.last_mut().unwrap();
        *last = json!({"streams": streams, "broken": broken});
        format!("there are {streams} streams, and {broken} broken")
    }

    /// An entry is gone, those after it have its number and the next, and their digests are computed anew; or their numbers are theirs.
    fn cut_and_compute(&mut self, renumber: bool) -> String {
        let at = self.any("seq");
        let begin = self.begin(at);
        self.lines.remove(at);
        for n in at..self.end(begin).max(at) {
            let seq = self.lines[n]["seq"].as_u64().unwrap();
            if !renumber {
                continue;
            }
            let (old, new) = (format!("\"seq\":{seq},"), format!("\"seq\":{},", seq - 1));
            let envelope = self.lines[n]["envelope"].as_str().unwrap();
            self.lines[n]["envelope"] = envelope.replacen(&old, &new, 1).into();
            self.lines[n]["seq"] = (seq - 1).into();
        }
        self.compute(begin);
        self.fit(begin);
        format!("line {} is cut out, and the chain computed anew", at + 1)
    }

    /// An entry says another time, and the chain is computed anew.
    fn change_and_compute(&mut self) -> String {
        let at = self.any("seq");
        let begin = self.begin(at);
        let envelope = self.lines[at]["envelope"].as_str().unwrap();
        let read: Value = serde_json::from_str(envelope).unwrap();
        let time = read["at"].as_i64().unwrap();
        let new = time - i64::try_from(self.random.below(3)).unwrap() + 1;
        let envelope = envelope.replacen(&format!("\"at\":{time}"), &format!("\"at\":{new}"), 1);
        self.lines[at]["envelope"] = envelope.into();
        self.compute(begin);
        self.fit(begin);
        format!(
            "line {} has the time {new}, and the chain is computed anew",
            at + 1
        )
    }

    fn change_end(&mut self) -> String {
        let at = self.any("end");
        let end = ["", "gone"].map(Value::from);
        match self.random.below(3) {
            0 => self.lines[at]["broken"] = self.random.of_all(&end).clone(),
            1 => self.lines[at]["end"] = self.random.of_all(&end).clone(),
            _ => {
                self.lines.remove(at);
            }
        }
        format!("the end of line {} is another or gone", at + 1)
    }

    fn replace_snapshot(&mut self) -> String {
        let (one, two) = (self.any("stream"), self.any("stream"));
        let bytes = json!({"seq": 1, "sha256": Digest::of(b"[]").to_string(), "bytes": "W10="});
        let other = self.lines[two]["snapshot"].clone();
        self.lines[one]["snapshot"] = if one == two || other.is_null() {
            bytes
        } else {
            other
        };
        format!("the snapshot of line {} is another", one + 1)
    }

    fn move_an_entry(&mut self) -> String {
        let (from, to) = (self.any("seq"), self.any("seq"));
        let line = self.lines.remove(from);
        self.lines.insert(to, line);
        format!("the entry of line {} stands at line {}", from + 1, to + 1)
    }
}
