//! Every step as it is written and read.

use super::*;

const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

fn queued() -> Queued {
    Queued {
        cause: Some(Box::new(Cause {
            plugin: "threshold-alarm".into(),
            topic: "telemetry".into(),
            origin: u64::MAX,
            partition: 1,
            offset: 9,
            index: 0,
        })),
        ..Queued::new("cool", br#"{"to":5}"#.to_vec(), 61_000, "plugin:threshold-alarm")
    }
}

fn with_everything() -> Queued {
    Queued {
        cause: None,
        execution_timeout_ms: Some(5),
        urgent: true,
        supersede: Some("set-point".into()),
        idempotency_key: Some("k1".into()),
        repeat: Repeat::Never,
        deliveries_max: Some(3),
        job: Some(ID.parse().unwrap()),
        redrives: Some(ID.parse().unwrap()),
        ..Queued::new("cool", vec![0xff], 61_000, "cli")
    }
}

fn taken() -> Queued {
    let taken = Taken {
        from: OriginHex(0xab),
        term: 3,
        attempts: 2,
        may_have_arrived: true,
        clients: vec!["c".into()],
        with_device: Some(State::Delivered),
        is_over: true,
        gateway: None,
        called_off: None,
    };
    Queued { taken: Some(Box::new(taken)), ..Queued::new("cool", vec![], 61_000, "cli") }
}

fn answer(payload: &[u8]) -> Answer {
    Answer { session: 3, payload: payload.to_vec().into(), ..Answer::default() }
}

fn submissions() -> Vec<(Step, String)> {
    vec![
        (
            Step::Queued(Box::new(queued())),
            r#""step":"queued","name":"cool","payload":"{\"to\":5}","deliver_by_ms":61000,"issued_by":"plugin:threshold-alarm","cause":{"plugin":"threshold-alarm","topic":"telemetry","origin":18446744073709551615,"partition":1,"offset":9,"index":0}"#.into(),
        ),
        (
            Step::Queued(Box::new(with_everything())),
            format!(
                r#""step":"queued","name":"cool","payload_base64":"/w==","deliver_by_ms":61000,"execution_timeout_ms":5,"urgent":true,"supersede":"set-point","idempotency_key":"k1","repeat":"never","deliveries_max":3,"issued_by":"cli","job":"{ID}","redrives":"{ID}""#
            ),
        ),
    ]
}

fn cases() -> Vec<(Step, &'static str)> {
    let why = Why { code: WhyCode::Denied, by: "valve-guard".into(), text: "pressure".into() };
    vec![
        (
            Step::Rewritten(Rewritten { by: "g".into(), payload: b"5".to_vec().into() }),
            r#""step":"rewritten","by":"g","payload":"5""#,
        ),
        (
            Step::Sent { session: 3, client: "c".into(), attempt: 1 },
            r#""step":"sent","session":3,"client":"c","attempt":1"#,
        ),
        (Step::Returned { session: 3, unsent: false }, r#""step":"returned","session":3"#),
        (Step::Returned { session: 3, unsent: true }, r#""step":"returned","session":3,"unsent":true"#),
        (Step::Delivered { session: 3 }, r#""step":"delivered","session":3"#),
        (Step::Accepted(answer(b"")), r#""step":"accepted","session":3"#),
        (
            Step::InProgress(Answer { percent: Some(40), ..answer(b"") }),
            r#""step":"in-progress","session":3,"percent":40"#,
        ),
        (
            Step::Succeeded(Answer { late: true, ..answer(b"ok") }),
            r#""step":"succeeded","session":3,"payload":"ok","late":true"#,
        ),
        (
            Step::Failed(Answer { left_out_bytes: Some(20_000), ..answer(b"") }),
            r#""step":"failed","session":3,"left_out_bytes":20000"#,
        ),
        (
            Step::Rejected(Answer { code: "stuck".into(), text: "it is stuck".into(), ..answer(&[0]) }),
            r#""step":"rejected","session":3,"payload_base64":"AA==","code":"stuck","text":"it is stuck""#,
        ),
        (
            Step::AnswerRefused { session: 3, status: Status::Failed, code: Refusal::SecondAnswer },
            r#""step":"answer-refused","session":3,"status":"failed","code":"second-answer""#,
        ),
        (
            Step::GuardOverridden(why.clone()),
            r#""step":"guard-overridden","code":"denied","by":"valve-guard","text":"pressure""#,
        ),
        (Step::Moving { to: OriginHex(0xab), term: 1 }, r#""step":"moving","to":"00000000000000ab","term":1"#),
        (Step::Moved { to: OriginHex(0xab), term: 1 }, r#""step":"moved","to":"00000000000000ab","term":1"#),
        (Step::Stays, r#""step":"stays""#),
        (
            Step::Queued(Box::new(taken())),
            r#""step":"queued","name":"cool","deliver_by_ms":61000,"issued_by":"cli","taken":{"from":"00000000000000ab","term":3,"attempts":2,"may_have_arrived":true,"clients":["c"],"with_device":"delivered","is_over":true}"#,
        ),
        (Step::Expired, r#""step":"expired""#),
        (Step::Unknown(Why::code(WhyCode::Unconfirmed)), r#""step":"unknown","code":"unconfirmed""#),
        (Step::TimedOut, r#""step":"timed-out""#),
        (Step::Refused(why), r#""step":"refused","code":"denied","by":"valve-guard","text":"pressure""#),
        (Step::Cancelled(Why::by(WhyCode::Cancelled, "cli")), r#""step":"cancelled","code":"cancelled","by":"cli""#),
        (Step::Superseded(Why::code(WhyCode::Superseded)), r#""step":"superseded","code":"superseded""#),
    ]
}

#[test]
fn every_step_is_golden_and_comes_back() {
    let steps = cases().into_iter().map(|(step, golden)| (step, golden.to_owned()));
    for (step, golden) in steps.chain(submissions()) {
        let event = StepEvent::new(ID.parse().unwrap(), 1000, 2, step);
        let golden = format!(r#"{{"v":1,"id":"{ID}","at_ms":1000,"n":2,{golden}}}"#);
        assert_eq!(String::from_utf8(event.encode()).unwrap(), golden);
        assert_eq!(StepEvent::decode(golden.as_bytes()).unwrap(), event);
    }
}

#[test]
fn fields_of_a_later_release_are_skipped() {
    let json = format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"expired","why":"late"}}"#);
    assert_eq!(StepEvent::decode(json.as_bytes()).unwrap().step, Step::Expired);
}

#[test]
fn every_code_is_written_as_it_is_shown() {
    use WhyCode::*;
    let codes = [
        NoRoom,
        Overflow,
        TooLarge,
        Denied,
        GuardFailed,
        NotRepeatable,
        DeliveriesExhausted,
        Cancelled,
        Superseded,
        DuplicateKey,
        Unconfirmed,
        Expired,
        NodeLost,
    ];
    for code in codes {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}

#[test]
fn other_values_are_refused() {
    let newer = format!(r#"{{"v":2,"id":"{ID}","what":"ever"}}"#);
    assert!(matches!(StepEvent::decode(newer.as_bytes()), Err(DecodeStepError::Version(2))));
    for json in [
        String::new(),
        "{}".into(),
        format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"forgotten"}}"#),
        r#"{"v":1,"id":"x","at_ms":1,"step":"expired"}"#.into(),
        format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"sent","session":-1,"attempt":1}}"#),
    ] {
        assert!(StepEvent::decode(json.as_bytes()).is_err(), "{json}");
    }
}
