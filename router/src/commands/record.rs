//! One command as the store keeps it: a version byte, then postcard.

use devices::command::{
    Answer, Cause, CommandId, OriginHex, Payload, Progress, Queued, Repeat, State, Status, Taken, Why, WhyCode,
};
use serde::{Deserialize, Serialize};
use sled_data::OriginId;

use super::entry::{Away, Entry};

/// The small named tree of commands; its key is the command id's 16 bytes.
pub const COMMANDS_TREE: &str = "commands";
/// Bytes of most records.
const RECORD_BYTES: usize = 192;
/// The version that is written of a command that no other node has or had: older releases read it.
const VERSION: u8 = 2;
/// The version of the others: the same, and behind it what says of other nodes.
const VERSION_3: u8 = 3;
/// The version of those that are called off at a linked site: the same, and behind it who does so.
const VERSION_4: u8 = 4;

/// What version 3 has behind version 2. Frozen: another shape is another version.
#[derive(Serialize, Deserialize)]
struct BetweenV3 {
    term: u64,
    away: Option<(u64, u64, bool)>,
    taken: Option<TakenV3>,
}

#[derive(Serialize, Deserialize)]
struct TakenV3 {
    from: u64,
    term: u64,
    attempts: u32,
    may_have_arrived: bool,
    clients: Vec<String>,
    with_device: Option<State>,
    is_over: bool,
}

/// Version 2 of a stored command. Frozen: another shape is another version.
#[derive(Deserialize)]
struct RecordV2 {
    device: String,
    at_ms: u64,
    queued: QueuedV2,
    order: u64,
    steps: u32,
    changed_ms: u64,
    progress: Progress,
    recipients: Vec<(u64, String)>,
    deliver_by: u64,
    execute_by: u64,
    result: Option<AnswerV2>,
    why: Option<(WhyCode, String, String)>,
    submitted: Option<Vec<u8>>,
    answers_refused: u32,
    progress_steps: u32,
    redriven_as: Option<[u8; 16]>,
    overridden: Option<(WhyCode, String, String)>,
    answered: Option<Status>,
}

#[derive(Deserialize)]
struct QueuedV2 {
    name: String,
    payload: Vec<u8>,
    deliver_by_ms: u64,
    execution_timeout_ms: Option<u64>,
    urgent: bool,
    supersede: Option<String>,
    idempotency_key: Option<String>,
    repeat: Repeat,
    deliveries_max: Option<u32>,
    issued_by: String,
    cause: Option<Cause>,
    job: Option<[u8; 16]>,
    redrives: Option<[u8; 16]>,
}

#[derive(Deserialize)]
struct AnswerV2 {
    session: u64,
    payload: Vec<u8>,
    percent: Option<u8>,
    code: String,
    text: String,
    left_out_bytes: Option<u64>,
    late: bool,
}

/// The same, borrowed: what is written has the same bytes.
#[derive(Serialize)]
struct RecordOut<'a> {
    device: &'a str,
    at_ms: u64,
    queued: QueuedOut<'a>,
    order: u64,
    steps: u32,
    changed_ms: u64,
    progress: &'a Progress,
    recipients: Vec<(u64, &'a str)>,
    deliver_by: u64,
    execute_by: u64,
    result: Option<AnswerOut<'a>>,
    why: Option<(WhyCode, &'a str, &'a str)>,
    submitted: Option<&'a [u8]>,
    answers_refused: u32,
    progress_steps: u32,
    redriven_as: Option<&'a [u8; 16]>,
    overridden: Option<(WhyCode, &'a str, &'a str)>,
    answered: Option<Status>,
}

#[derive(Serialize)]
struct QueuedOut<'a> {
    name: &'a str,
    payload: &'a [u8],
    deliver_by_ms: u64,
    execution_timeout_ms: Option<u64>,
    urgent: bool,
    supersede: Option<&'a str>,
    idempotency_key: Option<&'a str>,
    repeat: Repeat,
    deliveries_max: Option<u32>,
    issued_by: &'a str,
    cause: Option<&'a Cause>,
    job: Option<&'a [u8; 16]>,
    redrives: Option<&'a [u8; 16]>,
}

#[derive(Serialize)]
struct AnswerOut<'a> {
    session: u64,
    payload: &'a [u8],
    percent: Option<u8>,
    code: &'a str,
    text: &'a str,
    left_out_bytes: Option<u64>,
    late: bool,
}

/// A command as it is stored.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let record = RecordOut {
        device: &entry.device,
        at_ms: entry.at_ms,
        queued: queued_out(&entry.queued),
        order: entry.order,
        steps: entry.steps,
        changed_ms: entry.changed_ms,
        progress: &entry.progress,
        recipients: entry.recipients.iter().map(|(number, client)| (*number, &**client)).collect(),
        deliver_by: entry.deliver_by,
        execute_by: entry.execute_by,
        result: entry.result.as_deref().map(answer_out),
        why: entry.why.as_ref().map(|why| (why.code, why.by.as_str(), why.text.as_str())),
        submitted: entry.submitted.as_deref(),
        answers_refused: entry.answers_refused,
        progress_steps: entry.progress_steps,
        redriven_as: entry.redriven_as.as_ref().map(CommandId::as_bytes),
        overridden: entry.overridden.as_ref().map(|why| (why.code, why.by.as_str(), why.text.as_str())),
        answered: entry.answered,
    };
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    if entry.term == 0 && entry.away.is_none() && entry.queued.taken.is_none() {
        bytes.push(VERSION);
        return postcard::to_extend(&record, bytes).unwrap_or_default();
    }
    let away = entry.away.map(|away| (away.to.0, away.term, away.is_sure));
    let between = BetweenV3 { term: entry.term, away, taken: entry.queued.taken.as_deref().map(taken_out) };
    match entry.called_off.as_deref() {
        None => {
            bytes.push(VERSION_3);
            postcard::to_extend(&(record, between), bytes).unwrap_or_default()
        }
        Some(called_off) => {
            bytes.push(VERSION_4);
            postcard::to_extend(&(record, between, called_off), bytes).unwrap_or_default()
        }
    }
}

fn taken_out(taken: &Taken) -> TakenV3 {
    // Of a gateway the command itself says all.
    let Taken { from, term, attempts, may_have_arrived, clients, with_device, is_over, .. } = taken.clone();
    TakenV3 { from: from.0, term, attempts, may_have_arrived, clients, with_device, is_over }
}

fn taken_in(stored: TakenV3) -> Taken {
    let TakenV3 { from, term, attempts, may_have_arrived, clients, with_device, is_over } = stored;
    let from = OriginHex(from);
    Taken { from, term, attempts, may_have_arrived, clients, with_device, is_over, gateway: None, called_off: None }
}

/// Reads a stored command; `None` where its key, version or bytes are not known.
pub fn decode(key: &[u8], value: &[u8]) -> Option<Entry> {
    let id = CommandId::from_bytes(key.try_into().ok()?);
    let (record, between, called_off): (RecordV2, Option<BetweenV3>, Option<String>) = match value.split_first()? {
        (&VERSION, body) => (postcard::from_bytes(body).ok()?, None, None),
        (&VERSION_3, body) => {
            let (record, between) = postcard::from_bytes(body).ok()?;
            (record, Some(between), None)
        }
        (&VERSION_4, body) => {
            let (record, between, called_off) = postcard::from_bytes(body).ok()?;
            (record, Some(between), Some(called_off))
        }
        _ => return None,
    };
    let (term, away, taken) = match between {
        Some(BetweenV3 { term, away, taken }) => (term, away, taken),
        None => (0, None, None),
    };
    let queued = Queued { taken: taken.map(taken_in).map(Box::new), ..queued_in(record.queued) };
    Some(Entry {
        id,
        device: record.device.into(),
        at_ms: record.at_ms,
        queued,
        order: record.order,
        steps: record.steps,
        changed_ms: record.changed_ms,
        progress: record.progress,
        recipients: record.recipients.into_iter().map(|(number, client)| (number, client.into())).collect(),
        deliver_by: record.deliver_by,
        execute_by: record.execute_by,
        result: record.result.map(answer_in).map(Box::new),
        answered: record.answered,
        why: record.why.map(|(code, by, text)| Box::new(Why { code, by, text })),
        overridden: record.overridden.map(|(code, by, text)| Box::new(Why { code, by, text })),
        submitted: record.submitted.map(Vec::into_boxed_slice),
        answers_refused: record.answers_refused,
        progress_steps: record.progress_steps,
        redriven_as: record.redriven_as.map(CommandId::from_bytes),
        term,
        away: away.map(|(to, term, is_sure)| Away { to: OriginId(to), term, is_sure }),
        called_off: called_off.map(Into::into),
        is_stored: true,
    })
}

fn queued_out(queued: &Queued) -> QueuedOut<'_> {
    QueuedOut {
        name: &queued.name,
        payload: &queued.payload.0,
        deliver_by_ms: queued.deliver_by_ms,
        execution_timeout_ms: queued.execution_timeout_ms,
        urgent: queued.urgent,
        supersede: queued.supersede.as_deref(),
        idempotency_key: queued.idempotency_key.as_deref(),
        repeat: queued.repeat,
        deliveries_max: queued.deliveries_max,
        issued_by: &queued.issued_by,
        cause: queued.cause.as_deref(),
        job: queued.job.as_ref().map(CommandId::as_bytes),
        redrives: queued.redrives.as_ref().map(CommandId::as_bytes),
    }
}

fn queued_in(stored: QueuedV2) -> Queued {
    Queued {
        name: stored.name,
        payload: Payload(stored.payload),
        deliver_by_ms: stored.deliver_by_ms,
        execution_timeout_ms: stored.execution_timeout_ms,
        urgent: stored.urgent,
        supersede: stored.supersede,
        idempotency_key: stored.idempotency_key,
        repeat: stored.repeat,
        deliveries_max: stored.deliveries_max,
        issued_by: stored.issued_by,
        cause: stored.cause.map(Box::new),
        job: stored.job.map(CommandId::from_bytes),
        redrives: stored.redrives.map(CommandId::from_bytes),
        taken: None,
    }
}

fn answer_out(answer: &Answer) -> AnswerOut<'_> {
    AnswerOut {
        session: answer.session,
        payload: &answer.payload.0,
        percent: answer.percent,
        code: &answer.code,
        text: &answer.text,
        left_out_bytes: answer.left_out_bytes,
        late: answer.late,
    }
}

fn answer_in(stored: AnswerV2) -> Answer {
    Answer {
        session: stored.session,
        payload: Payload(stored.payload),
        percent: stored.percent,
        code: stored.code,
        text: stored.text,
        left_out_bytes: stored.left_out_bytes,
        late: stored.late,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use devices::command::Input;

    use super::*;

    fn entry() -> Entry {
        let queued = Queued {
            execution_timeout_ms: Some(3),
            urgent: true,
            supersede: Some("s".into()),
            idempotency_key: Some("k".into()),
            repeat: Repeat::Never,
            deliveries_max: Some(5),
            cause: Some(Box::new(Cause {
                plugin: "p".into(),
                topic: "t".into(),
                origin: 1,
                partition: 2,
                offset: 3,
                index: 4,
            })),
            job: Some(CommandId::from_bytes([7; 16])),
            redrives: Some(CommandId::from_bytes([8; 16])),
            ..Queued::new("c", vec![0xff], 2, "i")
        };
        let mut entry = Entry::new("d", CommandId::from_bytes([9; 16]), 1, queued, 6);
        entry.progress.apply(Input::Sent(5));
        entry.add_recipient(5, &"m".into());
        (entry.order, entry.steps, entry.changed_ms, entry.execute_by) = (4, 2, 9, 7);
        entry.result = Some(Box::new(Answer {
            session: 5,
            payload: Payload(vec![8]),
            percent: Some(40),
            code: "x".into(),
            text: "y".into(),
            left_out_bytes: Some(6),
            late: true,
        }));
        entry.answered = Some(Status::Failed);
        entry.why = Some(Box::new(Why { code: WhyCode::Denied, by: "g".into(), text: "h".into() }));
        entry.overridden = Some(Box::new(Why { code: WhyCode::GuardFailed, by: "o".into(), text: "p".into() }));
        (entry.submitted, entry.progress_steps) = (Some([7].into()), 2);
        (entry.answers_refused, entry.redriven_as) = (3, Some(CommandId::from_bytes([6; 16])));
        entry.is_stored = true;
        entry
    }

    #[test]
    fn a_stored_command_has_these_bytes() {
        let submitted: &[u8] = &[
            2, 1, b'd', 1, // version; device; when
            1, b'c', 1, 0xff, 2, 1, 3, 1, 1, 1, b's', 1, 1, b'k', 1, 1, 5, 1, b'i', // name to who sent it
            1, 1, b'p', 1, b't', 1, 2, 3, 4, // cause
        ];
        let ids: &[u8] = &[&[1][..], &[7; 16], &[1], &[8; 16]].concat();
        let way: &[u8] = &[
            4, 2, 9, // order, steps, changed
            1, 1, 5, 1, 0, // sent; recipients; attempts; not answered late
            1, 5, 1, b'm', 6, 7, // recipients with their clients; deliver by; execute by
            1, 5, 1, 8, 1, 40, 1, b'x', 1, b'y', 1, 6, 1, // the answer
            1, 2, 1, b'g', 1, b'h', 1, 1, 7, 3, 2, // why; what was submitted; answers refused; of progress
        ];
        let more: &[u8] = &[1, 3, 1, b'o', 1, b'p', 1, 3]; // overridden; the status of the answer
        let golden = [submitted, ids, way, &[1], &[6; 16], more].concat();
        assert_eq!(encode(&entry()), golden);
        assert_eq!(decode(&[9; 16], &golden), Some(entry()));
    }

    #[test]
    fn a_command_of_several_nodes_has_these_bytes_behind_the_same() {
        let mut entry = entry();
        let before = encode(&entry);
        let taken = Taken {
            from: OriginHex(1),
            term: 2,
            attempts: 3,
            may_have_arrived: true,
            clients: vec!["m".into()],
            with_device: Some(State::Delivered),
            is_over: false,
            gateway: None,
            called_off: None,
        };
        (entry.term, entry.queued.taken) = (2, Some(Box::new(taken)));
        entry.away = Some(Away { to: OriginId(5), term: 3, is_sure: true });
        let behind = [2, 1, 5, 3, 1, 1, 1, 2, 3, 1, 1, 1, b'm', 1, 2, 0];
        assert_eq!(encode(&entry), [&[3], &before[1..], &behind].concat());
        assert_eq!(decode(&[9; 16], &encode(&entry)), Some(entry.clone()));
        // The same, called off.
        entry.called_off = Some("cli".into());
        assert_eq!(encode(&entry), [&[4], &before[1..], &behind, b"\x03cli"].concat());
        assert_eq!(decode(&[9; 16], &encode(&entry)), Some(entry));
    }

    #[test]
    fn other_bytes_are_not_taken_for_a_command() {
        let stored = encode(&entry());
        assert_eq!(decode(&[9; 15], &stored), None);
        assert_eq!(decode(&[9; 16], &[]), None);
        assert_eq!(decode(&[9; 16], &[&[9], &stored[1..]].concat()), None);
        for cut in 0..stored.len() {
            assert_eq!(decode(&[9; 16], &stored[..cut]), None, "cut at {cut}");
        }
    }
}
