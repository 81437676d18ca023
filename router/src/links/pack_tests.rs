//! Packed frames: the same bytes again, small ones small, and no wrong ones.

use sled_data::{HeaderBlock, Hole, HoleWhy, OpenBatch, OriginId, PartitionId, SealInfo, Sealer, StoredBatch, TopicId};

use super::super::unpack::Unpacker;
use super::super::wire::{Said, WireError};
use super::*;

/// Bytes of the dictionary at most.
const DICTIONARY_BYTES_MAX: usize = 8 << 10;

/// SplitMix64.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ (mixed >> 31)) % bound
}

/// One event: its device, which is its key, its MQTT topic, and what it says.
type Event = (String, String, String);

/// A source of one topic's batches.
struct Source {
    id: PartitionId,
    next: u64,
    ms: i64,
    compression: Compression,
    sealer: Sealer,
}

impl Source {
    fn new(index: u32, compression: Compression) -> Self {
        let id = PartitionId { origin: OriginId(0x1234_5678_9abc_def0), topic: TopicId(0xfedc_ba98_7654_3210), index };
        Self { id, next: 0, ms: 1_764_201_600_000, compression, sealer: Sealer::new() }
    }

    fn batch(&mut self, events: &[Event], random: &mut u64) -> LinkedPart {
        self.ms += 1 + below(random, 900) as i64;
        let mut open = OpenBatch::new();
        for (device, topic, value) in events {
            let mut headers = HeaderBlock::new();
            headers.push("mqtt.topic", topic.as_bytes());
            let timestamp = self.ms - below(random, 3) as i64;
            open.push(timestamp, Some(device.as_bytes()), Some(value.as_bytes()), &headers).unwrap();
        }
        let info = SealInfo {
            partition: self.id,
            base_offset: self.next,
            hlc: (self.ms as u64) << HLC_LOGICAL_BITS | below(random, 3),
            compression: self.compression,
            hops: 0,
            term: 0,
            flags: 0,
        };
        self.next += events.len() as u64;
        LinkedPart::Batch(StoredBatch::from(open.seal(info, &mut self.sealer)))
    }
}

/// A reading as many gateways write them: whose numbers differ, and little else.
fn reading(random: &mut u64) -> Event {
    let device = format!("sensor-{:02}", below(random, 40));
    let (whole, part) = (15 + below(random, 60), below(random, 100));
    let (humidity, battery) = (300 + below(random, 400), 3_000 + below(random, 1_200));
    let value = format!(
        r#"{{"device":"{device}","seq":{},"temperature":{whole}.{part:02},"humidity":{}.{},"battery_mv":{battery}}}"#,
        below(random, 100_000),
        humidity / 10,
        humidity % 10,
    );
    let topic = format!("sensors/{device}/climate");
    (device, topic, value)
}

/// Readings of words that no dictionary has.
fn foreign(random: &mut u64) -> Event {
    let device = format!("Kessel{}", below(random, 9));
    let value = format!(
        r#"{{"Anlage":"{device}","Druck_bar":{}.{},"Vorlauf_C":{}.{},"Brenner":"{}","Zeit":{}}}"#,
        below(random, 4),
        below(random, 100),
        40 + below(random, 40),
        below(random, 10),
        ["an", "aus"][below(random, 2) as usize],
        1_764_201_600 + below(random, 100_000),
    );
    let topic = format!("Heizhaus/{device}/Werte");
    (device, topic, value)
}

/// Readings of many makers, from which the dictionary is made.
fn of_makers(random: &mut u64, which: u64) -> Event {
    let n = below(random, 100);
    let number = |random: &mut u64| format!("{}.{}", below(random, 100), below(random, 10));
    let (a, b, c) = (number(random), number(random), number(random));
    let ts = format!("17{}", 64_000_000 + below(random, 9_000_000));
    let at =
        format!("2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", 1 + n % 12, 1 + n % 28, n % 24, n % 60, n % 59, n * 7);
    let (device, topic, value) = match which % 14 {
        0 => (
            "device-",
            "devices/{}/telemetry",
            format!(r#"{{"timestamp":{ts}000,"temperature":{a},"humidity":{b},"pressure":10{c}}}"#),
        ),
        1 => (
            "sensor-",
            "sensors/{}/state",
            format!(r#"{{"id":"sensor-{n}","ts":{ts}123,"value":{a},"unit":"C","quality":"good"}}"#),
        ),
        2 => (
            "meter-",
            "meters/{}/power",
            format!(
                r#"{{"voltage":23{a},"current":{b},"power":{c},"energy":1{n}{a},"frequency":50.0,"power_factor":0.9{n}}}"#
            ),
        ),
        3 => (
            "pump-",
            "plant/line-1/{}/status",
            format!(
                r#"{{"name":"pump-{n}","status":"running","speed":14{n},"flow":{a},"vibration":{b},"running_hours":{n}17}}"#
            ),
        ),
        4 => (
            "motor-",
            "factory/area-2/{}/data",
            format!(
                r#"{{"timestamp":"{at}","device_id":"motor-{n}","rpm":{n}0,"torque":{a},"current":{b},"winding_temperature":{c}}}"#
            ),
        ),
        5 => (
            "gw-",
            "spBv1.0/Plant/DDATA/Edge/{}",
            format!(
                r#"{{"timestamp":{ts}456,"metrics":[{{"name":"Level","timestamp":{ts}456,"dataType":"Float","value":{a}}},{{"name":"Valve/Open","dataType":"Boolean","value":true}}],"seq":{n}}}"#
            ),
        ),
        6 => (
            "zigbee-",
            "zigbee2mqtt/{}",
            format!(
                r#"{{"battery":{n},"contact":false,"linkquality":1{n},"occupancy":true,"illuminance":{n},"temperature":{a},"humidity":{b},"voltage":30{n}}}"#
            ),
        ),
        7 => (
            "tasmota-",
            "tele/{}/SENSOR",
            format!(
                r#"{{"Time":"{at}","ENERGY":{{"TotalStartTime":"{at}","Total":{a},"Yesterday":{b},"Today":{c},"Power":{n},"ApparentPower":{n},"ReactivePower":0,"Factor":0.9,"Voltage":23{n},"Current":0.{n}}}}}"#
            ),
        ),
        8 => (
            "node-",
            "application/1/device/{}/event/up",
            format!(
                r#"{{"deviceName":"node-{n}","devEUI":"a84041ffff18{n}","rxInfo":[{{"rssi":-9{n},"loRaSNR":{a}}}],"fCnt":{n}1,"fPort":2,"data":"AQID","object":{{"battery":3.{n},"temp":{b}}}}}"#
            ),
        ),
        9 => (
            "truck-",
            "fleet/{}/position",
            format!(
                r#"{{"lat":5{n}.12{n}4,"lon":1{n}.8{n}21,"latitude":48.1{n}5,"longitude":11.5{n}3,"altitude":5{n},"speed":{a},"heading":{n},"satellites":9,"fuel_level":{b}}}"#
            ),
        ),
        10 => (
            "opcua-",
            "opcua/{}/value",
            format!(
                r#"{{"nodeId":"ns=2;s=Machine.{n}","value":{a},"statusCode":"Good","sourceTimestamp":"{at}","serverTimestamp":"{at}"}}"#
            ),
        ),
        11 => (
            "alarm-",
            "alarms/{}",
            format!(
                r#"{{"alarm":"high temperature","severity":"critical","level":"warning","active":true,"acknowledged":false,"message":"limit exceeded","limit":{a},"value":{b},"event":"error","state":"on"}}"#
            ),
        ),
        12 => (
            "press-",
            "machines/{}/cycle",
            format!(
                r#"{{"machine":"press-{n}","cycle":{n}21,"cycle_time_ms":{n}50,"count":{n},"good":{n},"scrap":0,"state":"idle","mode":"automatic","oee":0.{n},"part":"A{n}","order":"4711"}}"#
            ),
        ),
        _ => (
            "sensor-",
            "sensors/{}/climate",
            format!(
                r#"{{"device":"sensor-{n}","seq":{n}1,"temperature":{a}1,"humidity":{b},"co2":4{n},"battery_mv":3{n}0,"rssi":-{n},"uptime":{n}00,"location":"hall","online":true,"error":null}}"#
            ),
        ),
    };
    let device = format!("{device}{n}");
    (device.clone(), topic.replace("{}", &device), value)
}

/// The dictionary that the makers' readings give, the commonest last.
fn dictionary() -> Vec<u8> {
    let (mut packer, mut random) = (Packer::new(None).unwrap(), 26);
    let mut source = Source::new(0, Compression::None);
    let mut bytes = Vec::new();
    for n in 0..40 {
        let event = of_makers(&mut random, n);
        let parts = Parts { number: n + 1, origin: source.id.origin, parts: vec![source.batch(&[event], &mut random)] };
        let plain = parts.encode();
        bytes.extend_from_slice(&packer.content(&parts, &plain, 1_024));
    }
    bytes.split_off(bytes.len().saturating_sub(DICTIONARY_BYTES_MAX))
}

#[test]
fn the_dictionary_is_the_one_that_its_number_says() {
    if std::env::var_os("EDGEWAY_WRITE_DICTIONARY").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/links/dictionary-1.bin");
        return std::fs::write(path, dictionary()).unwrap();
    }
    // Where this fails, what is packed has changed: a new number, and a file of its own, for what it is now.
    assert!(DICTIONARY_BYTES == dictionary(), "EDGEWAY_WRITE_DICTIONARY=1 makes one");
}

fn frame(packer: &mut Packer, number: u64, parts: Vec<LinkedPart>) -> (Vec<u8>, Vec<u8>) {
    let parts = Parts { number, origin: OriginId(0x1234_5678_9abc_def0), parts };
    let plain = parts.encode();
    (packer.pack(&parts, &plain).expect("it is packed"), plain)
}

#[test]
fn each_frame_is_the_same_bytes_again() {
    for rate in [None, Some(6_250)] {
        let mut random = 5;
        let (mut packer, mut unpacker) = (Packer::new(rate).unwrap(), Unpacker::new().unwrap());
        let mut sources: Vec<Source> = (0..9)
            .map(|n| Source::new(n, [Compression::None, Compression::Lz4, Compression::Zstd][n as usize % 3]))
            .collect();
        for number in 1..60 {
            let mut parts = Vec::new();
            for _ in 0..below(&mut random, 12) {
                let source = &mut sources[below(&mut random, 9) as usize];
                if below(&mut random, 20) == 0 {
                    let (from, to) = (source.next, source.next + 300);
                    source.next = to;
                    let hole = Hole { from, to, why: HoleWhy::Retention, at_ms: 0 };
                    parts.push(LinkedPart::Hole(source.id, hole));
                }
                let count = [1, 3, 200][below(&mut random, 3) as usize];
                let mut events: Vec<_> = (0..count).map(|_| reading(&mut random)).collect();
                if below(&mut random, 30) == 0 {
                    // A large event, after which its sealer compresses otherwise.
                    events[0].2 = "0123456789".repeat(10_000);
                }
                parts.push(source.batch(&events, &mut random));
            }
            let (packed, plain) = frame(&mut packer, number, parts);
            assert_eq!(unpacker.plain(&packed).unwrap(), plain, "frame {number}");
            assert!(matches!(Said::decode(&plain), Ok(Said::Parts(parts)) if parts.number == number));
        }
    }
}

#[test]
fn small_readings_become_a_sixth_or_less() {
    // What is sent, events in a batch, batches in a frame, how often it must become smaller at the least
    type Case = (&'static str, fn(&mut u64) -> Event, usize, usize, f64);
    let cases: [Case; 5] = [
        ("a backlog of full batches", reading, 400, 4, 6.0),
        ("a backlog of single readings", reading, 1, 200, 6.0),
        ("live, some at a time", reading, 1, 10, 5.5),
        ("live, one at a time", reading, 1, 1, 2.5),
        ("a backlog in foreign words", foreign, 1, 200, 6.0),
    ];
    for (case, make, events, batches, least) in cases {
        let mut random = 11;
        let mut packer = Packer::new(Some(6_250)).unwrap();
        let mut source = Source::new(0, Compression::Lz4);
        let (mut records, mut stored, mut sent) = (0, 0, 0);
        for number in 1..=(2_000 / (events * batches)).max(3) as u64 {
            let parts: Vec<_> = (0..batches)
                .map(|_| {
                    let events: Vec<_> = (0..events).map(|_| make(&mut random)).collect();
                    source.batch(&events, &mut random)
                })
                .collect();
            for part in &parts {
                let LinkedPart::Batch(batch) = part else { continue };
                records += batch.envelope().record_bytes as usize;
                stored += batch.bytes().len();
            }
            sent += frame(&mut packer, number, parts).0.len();
        }
        let ratio = records as f64 / sent as f64;
        println!("{case}: {records} bytes of records, {stored} as stored, {sent} sent: {ratio:.1}");
        assert!(ratio >= least, "{case}: {ratio:.2}");
    }
}

#[test]
fn what_was_changed_on_the_way_is_no_frame() {
    let mut random = 3;
    let mut source = Source::new(0, Compression::Lz4);
    let parts: Vec<_> = (0..4).map(|n| source.batch(&vec![reading(&mut random); n + 1], &mut random)).collect();
    let (packed, plain) = frame(&mut Packer::new(None).unwrap(), 1, parts);
    assert_eq!(Unpacker::new().unwrap().plain(&packed).as_ref(), Ok(&plain));
    for at in 1..packed.len() {
        let mut wrong = packed.clone();
        wrong[at] ^= 1 << (at % 8);
        // Some bits say nothing.
        let read = Unpacker::new().unwrap().plain(&wrong);
        assert!(read.is_err() || read.as_ref() == Ok(&plain), "byte {at}: {read:?}");
        assert!(Unpacker::new().unwrap().plain(&packed[..at]).is_err(), "cut at {at}");
    }
    // A content that says something else than its checksum: what another compressor would give.
    let parts =
        Parts { number: 1, origin: source.id.origin, parts: vec![source.batch(&[reading(&mut random)], &mut random)] };
    let packed = Packer::new(None).unwrap().pack(&parts, b"other bytes").unwrap();
    assert_eq!(Unpacker::new().unwrap().plain(&packed), Err(WireError::Differs));
}

#[test]
fn what_is_too_large_goes_as_it_is() {
    let mut random = 3;
    let mut source = Source::new(0, Compression::Lz4);
    let large = ("k".to_owned(), "t".to_owned(), "x".repeat(CONTENT_BYTES_MAX));
    let parts = Parts { number: 1, origin: source.id.origin, parts: vec![source.batch(&[large], &mut random)] };
    let mut packer = Packer::new(None).unwrap();
    assert_eq!(packer.pack(&parts, &parts.encode()), None);
    // What follows is packed all the same.
    let parts = vec![source.batch(&[reading(&mut random)], &mut random)];
    let (packed, plain) = frame(&mut packer, 2, parts);
    assert_eq!(Unpacker::new().unwrap().plain(&packed), Ok(plain));
}
