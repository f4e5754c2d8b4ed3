//! `tape relay reset`, `disable`, `enable` and `forget`.

use super::parts::{Parts, entries_text, lag, of, tell_unreadable};
use super::unknown;
use crate::text::counted;
use crate::{Context, Failure};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;
use tape_client::Error;
use tape_client::api::relays::{Control, Controlled};
use tape_client::core::id::RelayId;

/// Puts a relay at another place of the feed. The processes that carry its parts notice, and go on from there; a relay that is disabled stays so.
///
/// What lies behind the new place is sent again, also what was sent before: each receiver must know an event that comes a second time by its
/// id. What lies before the new place and was not sent yet is never sent.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// The relay.
    relay: RelayId,
    /// Where to: the beginning of the feed, its end as it is now, or a cursor of a shard as `tape relay status` prints it. Cursors can be given
    /// for several shards; the others stay where they are.
    #[arg(long, required = true, value_name = "beginning|end|SHARD=CURSOR")]
    to: Vec<To>,
}

/// Where one value of `--to` says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Beginning,
    End,
    Cursor(u16, Bytes),
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "say beginning, end, or SHARD=CURSOR as `tape relay status` prints it".to_owned();
        let (shard, cursor) = match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            other => other.split_once('=').ok_or_else(form)?,
        };
        let shard = shard.parse().map_err(|_| form())?;
        let cursor = hex::decode(cursor).map_err(|_| form())?;
        Ok(Self::Cursor(shard, cursor.into()))
    }
}

impl Reset {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let control = control(self.to)?;
        let found = known(context, &self.relay).await?;
        let what = consequence(&self.relay, &control, &found);
        context.consent.ask(&what)?;
        carry_out(context, &self.relay, &control, "is put there").await
    }
}

fn control(to: Vec<To>) -> Result<Control, Failure> {
    let invalid = |problem: String| Failure::Misused(Error::Invalid { what: "to", problem });
    let mut cursors = BTreeMap::new();
    match &to[..] {
        [To::Beginning] => return Ok(Control::ToBeginning),
        [To::End] => return Ok(Control::ToEnd),
        _ => {}
    }
    for to in to {
        let To::Cursor(shard, cursor) = to else {
            return Err(invalid(
                "is one place, or a cursor for each of some shards".to_owned(),
            ));
        };
        if cursors.insert(shard, cursor).is_some() {
            return Err(invalid(format!("has a cursor of shard {shard} twice")));
        }
    }
    Ok(Control::To(cursors))
}

/// What a reset leads to, for the person who is asked.
fn consequence(relay: &RelayId, control: &Control, found: &Parts) -> String {
    let delivered: u64 = found.parts.iter().map(|part| part.place.delivered).sum();
    match control {
        Control::ToBeginning => format!(
            "puts {relay} at the beginning of the feed: it sends everything again, {} were delivered until now",
            counted(delivered, "event", "events")
        ),
        Control::ToEnd => {
            let behind = lag(&found.parts).map_or_else(
                |_| "how much is not known".to_owned(),
                |behind| entries_text(&behind),
            );
            format!("puts {relay} at the end of the feed: what it has not passed, {behind}, is never sent")
        }
        _ => format!(
            "puts shards of {relay} elsewhere: what lies behind the new places is sent again, and what lies before them and was not sent yet \
             is never sent"
        ),
    }
}

/// Stops a relay until it is enabled: nothing more is sent, and its place stays.
#[derive(Debug, Args)]
pub(super) struct Disable {
    /// The relay.
    relay: RelayId,
    /// Why; `tape relay list` shows it.
    #[arg(long)]
    reason: String,
}

impl Disable {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        let control = Control::Disable { reason: self.reason };
        carry_out(context, &self.relay, &control, "is disabled").await
    }
}

/// Lets a relay that is disabled go on from where it stopped.
#[derive(Debug, Args)]
pub(super) struct Enable {
    /// The relay.
    relay: RelayId,
}

impl Enable {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        carry_out(context, &self.relay, &Control::Enable, "may run").await
    }
}

/// Forgets the place of a relay, for one that is no longer used. What it has on record stays.
///
/// A process that still has a relay of this name begins anew, at the place that its configuration names.
#[derive(Debug, Args)]
pub(super) struct Forget {
    /// The relay.
    #[arg(required_unless_present = "record")]
    relay: Option<RelayId>,
    /// In place of a relay, one record that cannot be read, as `tape relay list` names it: also one that is of no relay.
    #[arg(long, value_name = "NAME", conflicts_with = "relay")]
    record: Option<String>,
}

impl Forget {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<ExitCode, Failure> {
        match (self.relay, self.record) {
            (Some(relay), _) => forget(context, &relay).await,
            (None, record) => forget_record(context, &record.unwrap_or_default()).await,
        }
    }
}

async fn forget(context: &mut Context<'_>, relay: &RelayId) -> Result<ExitCode, Failure> {
    let found = known(context, relay).await?;
    let parts = found.parts.len() + found.unreadable.len();
    let parts = counted(parts as u64, "part", "parts");
    let what = format!("forgets where {relay} is, in {parts}: a relay of that name begins anew");
    context.consent.ask(&what)?;
    carry_out(context, relay, &Control::Forget, "is forgotten").await
}

async fn forget_record(context: &mut Context<'_>, name: &str) -> Result<ExitCode, Failure> {
    let what = format!("removes the record '{name}', if this build cannot read it");
    context.consent.ask(&what)?;
    if !context.tape.forget_relay_record(name).await? {
        let problem = format!("there is none of the name '{name}'");
        return Err(Failure::Tape(Error::Invalid {
            what: "record",
            problem,
        }));
    }
    let value = json!({"record": name, "done": "is removed"});
    context.say(&value, &format!("{name} is removed"))?;
    Ok(ExitCode::SUCCESS)
}

/// The parts of a relay, of which there is at least one.
async fn known(context: &Context<'_>, relay: &RelayId) -> Result<Parts, Failure> {
    let found = of(context, relay).await?;
    if found.parts.is_empty() && found.unreadable.is_empty() {
        return Err(unknown(relay));
    }
    Ok(found)
}

async fn carry_out(
    context: &mut Context<'_>,
    relay: &RelayId,
    control: &Control,
    done: &str,
) -> Result<ExitCode, Failure> {
    let Controlled { parts, unreadable } = context.tape.control_relay(relay, control).await?;
    if parts == 0 && unreadable.is_empty() {
        return Err(unknown(relay));
    }
    let value = json!({"relay": relay.to_string(), "parts": parts, "done": done});
    let text = format!("{relay} {done}, in {}", counted(parts, "part", "parts"));
    context.say(&value, &text)?;
    tell_unreadable(context, &unreadable)?;
    // Of those it is not done.
    let whole = unreadable.is_empty();
    Ok(if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::{To, control};
    use tape_client::api::relays::Control;

    #[test]
    fn a_place_is_the_beginning_the_end_or_a_cursor_of_each_shard() {
        let read = |texts: &[&str]| {
            let to: Result<Vec<To>, String> = texts.iter().map(|text| text.parse()).collect();
            control(to.ok()?).ok()
        };
        assert_eq!(read(&["beginning"]), Some(Control::ToBeginning));
        assert_eq!(read(&["end"]), Some(Control::ToEnd));
        let cursors = [(0, "\u{1}\u{2}".into()), (7, "".into())].into();
        assert_eq!(read(&["0=0102", "7="]), Some(Control::To(cursors)));
        for wrong in [
            &["start"][..],
            &["0=0g"],
            &["0=010"],
            &["=01"],
            &["65536=01"],
            &["end", "end"],
            &["0=01", "end"],
            &["0=01", "0=02"],
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
