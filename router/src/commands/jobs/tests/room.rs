//! The room with jobs on a memory store: all the way, a restart, a failed commit, stopped ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use devices::command::{CommandId, State, Status};
use sled_data::{Faults, MemoryBackend};

use crate::catalog::{Catalog, Change};
use crate::commands::jobs::record::{TARGETS_TREE, targets_key};
use crate::commands::tests::{LONG, Node, backend, next_offer, until};
use crate::commands::{
    AbortAbove, COMMANDS_TREE, Config, JOBS_TOPIC, JOBS_TREE, JobError, JobInfo, JobState, NewCommand, NewJob,
    StartError,
};
use crate::directory::Directory;

struct Site {
    node: Node,
    directory: Arc<Directory>,
}

impl Site {
    fn start(backend: &Arc<MemoryBackend>, config: Config) -> Self {
        let node = Node::open(backend, config);
        let catalog = Catalog::open(Arc::clone(&node.log), Default::default()).unwrap();
        let directory = Directory::new(catalog, Arc::clone(&node.sessions), Arc::clone(&node.log));
        node.room.set_directory(Arc::clone(&directory));
        Self { node: node.run(), directory }
    }

    async fn add(&self, numbers: Range<u32>) {
        for n in numbers {
            let (device, tags) = (format!("pump-{n:03}"), ["pump".to_owned()].into());
            let change = Change::AddDevice { device, tags, attributes: BTreeMap::new(), refuses_repeats: None };
            self.directory.propose(change, "cli").await.unwrap();
        }
    }

    async fn begin(&self, new: NewJob) -> CommandId {
        self.node.room.start_job(new).await.unwrap().job.id
    }

    fn job(&self, id: CommandId) -> JobInfo {
        self.node.room.job(id).unwrap()
    }

    async fn submitted(&self, id: CommandId, at_least: u32) {
        let enough = || (self.job(id).submitted >= at_least).then_some(());
        until("commands are submitted", enough).await;
    }

    /// How often each command of a job was queued, by the log.
    fn queued(&self, id: CommandId, total: u32) -> Vec<usize> {
        let count = |index| self.node.steps(CommandId::of_job(id, index)).iter().filter(|s| *s == "queued").count();
        (0..total).map(count).collect()
    }

    fn events(&self, id: CommandId) -> Vec<String> {
        let topic = self.node.log.topic(JOBS_TOPIC).unwrap();
        let mut events = Vec::new();
        for partition in topic.all_partitions() {
            for batch in self.node.log.read(partition.id(), 0, 1 << 24).unwrap() {
                for (_, record) in batch.events_from(0) {
                    let json: serde_json::Value = serde_json::from_slice(record.value.unwrap()).unwrap();
                    assert_eq!(json["job"], id.to_string());
                    events.push(json["event"].as_str().unwrap().to_owned());
                }
            }
        }
        events
    }
}

fn new_job(rate: u32) -> NewJob {
    let command = NewCommand { deliver_within_ms: Some(600_000), ..NewCommand::new("", "cool", "cli") };
    NewJob { filter: "tag = pump".into(), command, rate, abort_above: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_gets_its_command_and_the_job_is_done() {
    let site = Site::start(&backend(), Config::default());
    site.add(0..3).await;
    let devices = [site.node.connect("pump-000").await, site.node.connect("pump-002").await];
    let mut short = new_job(1_000);
    short.command.deliver_within_ms = Some(100);
    let id = site.begin(short).await;
    for (device, status) in devices.iter().zip([Status::Succeeded, Status::Failed]) {
        let offer = next_offer(device).await;
        let command: CommandId = offer.topic.split('/').nth(3).unwrap().parse().unwrap();
        offer.acked();
        site.node.answer(device, &device.client_id, command, status);
    }
    let ended = site.node.room.wait_job(id, LONG).await.unwrap();
    assert_eq!((ended.state, ended.ended, ended.total, ended.submitted), (JobState::Done, true, 3, 3));
    assert_eq!((ended.outcomes.succeeded, ended.outcomes.failed, ended.outcomes.expired), (1, 1, 1));
    let page = site.node.room.job_devices(id, None, None, 2).unwrap();
    let listed: Vec<_> = page.devices.iter().map(|device| (device.device.as_str(), device.state)).collect();
    assert_eq!(listed, [("pump-000", Some(State::Succeeded)), ("pump-001", Some(State::Expired))]);
    let rest = site.node.room.job_devices(id, page.next, None, 2).unwrap();
    assert_eq!((rest.devices.len(), rest.next), (1, None));
    let failed = site.node.room.job_devices(id, None, Some(State::Failed), 10).unwrap();
    assert_eq!(failed.devices[0].device, "pump-002");
    assert_eq!(site.queued(id, 3), [1, 1, 1]);
    let events = site.events(id);
    assert_eq!((events.first().unwrap().as_str(), events.last().unwrap().as_str()), ("started", "done"));
    assert_eq!(site.node.room.stats().job_commands.load(Ordering::Relaxed), 3);
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_and_a_full_disk_in_the_middle_neither_skip_nor_double_a_device() {
    const TOTAL: u32 = 300;
    let backend = backend();
    let site = Site::start(&backend, Config::default());
    site.add(0..TOTAL).await;
    let id = site.begin(new_job(100)).await;
    site.submitted(id, 40).await;
    site.node.end().await;

    let site = Site::start(&backend, Config::default());
    assert!((40..TOTAL).contains(&site.job(id).submitted));
    site.submitted(id, 150).await;
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    until("a commit fails", || (site.node.room.stats().rebuilt.load(Ordering::Relaxed) > 0).then_some(())).await;
    backend.set_faults(Faults::default());
    site.submitted(id, TOTAL).await;
    assert_eq!(site.queued(id, TOTAL), vec![1; TOTAL as usize]);

    let device = site.node.connect("pump-299").await;
    next_offer(&device).await.acked();
    site.node.answer(&device, "pump-299", CommandId::of_job(id, 299), Status::Succeeded);
    until("it is counted", || (site.job(id).outcomes.succeeded == 1).then_some(())).await;
    site.node.room.wait(CommandId::of_job(id, 299), LONG).await.unwrap();
    site.node.end().await;
    let site = Site::start(&backend, Config::default());
    assert_eq!((site.job(id).outcomes.succeeded, site.job(id).outcomes.total()), (1, 1), "counted once");
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_job_stays_paused_and_a_cancelled_one_calls_off_what_waits() {
    let backend = backend();
    let site = Site::start(&backend, Config::default());
    site.add(0..30).await;
    let room = Arc::clone(&site.node.room);
    let id = site.begin(new_job(20)).await;
    site.submitted(id, 3).await;
    assert_eq!(room.pause_job(id, "cli").await.unwrap().state, JobState::Paused);
    site.node.end().await;

    let site = Site::start(&backend, Config::default());
    let room = Arc::clone(&site.node.room);
    let paused = site.job(id);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!((site.job(id).submitted, site.job(id).state), (paused.submitted, JobState::Paused));
    room.resume_job(id, "cli").await.unwrap();
    site.submitted(id, paused.submitted + 2).await;
    // One that a device has goes on.
    let device = site.node.connect("pump-000").await;
    next_offer(&device).await.acked();
    until("it is delivered", || (room.get(CommandId::of_job(id, 0))?.state == State::Delivered).then_some(())).await;
    let cancelled = room.cancel_job(id, "cli").await.unwrap();
    assert_eq!((cancelled.state, cancelled.ended), (JobState::Cancelled, false));
    until("the others are called off", || {
        let job = site.job(id);
        (job.outcomes.cancelled == job.submitted - 1).then_some(())
    })
    .await;
    assert!(room.wait_job(id, Duration::from_millis(20)).await.is_none());
    site.node.answer(&device, "pump-000", CommandId::of_job(id, 0), Status::Succeeded);
    assert_eq!(room.wait_job(id, LONG).await.unwrap().outcomes.succeeded, 1);
    assert!(matches!(room.pause_job(id, "cli").await, Err(JobError::Ended { .. })));
    let unknown = room.cancel_job(CommandId::v7(1, [1; 10]), "cli").await;
    assert!(matches!(unknown, Err(JobError::NoJob(_))));
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_commands_fail_gives_up() {
    let site = Site::start(&backend(), Config { pending_max: 1, ..Config::default() });
    site.add(0..200).await;
    let id = site.begin(NewJob { abort_above: Some(AbortAbove::Count(5)), ..new_job(100) }).await;
    let ended = site.node.room.wait_job(id, LONG).await.unwrap();
    assert_eq!(ended.state, JobState::Aborted);
    assert!(ended.outcomes.refused >= 6 && ended.submitted < 200, "{ended:?}");
    assert_eq!(
        (ended.outcomes.cancelled, ended.outcomes.total()),
        (1, ended.submitted),
        "the one that had room waited"
    );
    assert!(site.events(id).contains(&"aborted".to_owned()));
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_refused_by_reason_and_forgotten_beyond_the_bound() {
    let config = Config { jobs_max: 2, job_targets_max: 5, job_rate_max: 1_000, ..Config::default() };
    let site = Site::start(&backend(), config);
    let room = Arc::clone(&site.node.room);
    let refused = async |edit: fn(&mut NewJob)| {
        let mut bad = new_job(100);
        edit(&mut bad);
        room.start_job(bad).await.unwrap_err()
    };
    assert!(matches!(refused(|_| {}).await, StartError::NoDevices(_)));
    assert!(!refused(|_| {}).await.to_string().contains("other sites"));
    let of_site = refused(|job| job.filter = "device = \"plant/pump\"".into()).await.to_string();
    assert!(of_site.contains("a job has no devices of other sites (start it there)"), "{of_site}");
    site.add(0..5).await;
    assert!(matches!(refused(|j| j.filter = "tag >".into()).await, StartError::Filter(_)));
    assert!(matches!(refused(|j| j.rate = 0).await, StartError::Rate { max: 1_000 }));
    assert!(matches!(refused(|j| j.rate = 1_001).await, StartError::Rate { .. }));
    assert!(matches!(refused(|j| j.command.name = "a/b".into()).await, StartError::Command(_)));
    assert!(room.jobs().is_empty());

    let keyed = || {
        let mut job = new_job(1_000);
        job.command.idempotency_key = Some("k".into());
        job
    };
    let first = room.start_job(keyed()).await.unwrap();
    let again = room.start_job(keyed()).await.unwrap();
    assert_eq!((first.is_new, again.is_new, again.job.id), (true, false, first.job.id));
    let other = room.start_job(NewJob { rate: 7, ..keyed() }).await;
    assert!(matches!(other, Err(StartError::Conflict { .. })), "{other:?}");
    let second = site.begin(new_job(1_000)).await;
    assert!(matches!(refused(|_| {}).await, StartError::TooManyJobs { max: 2 }));
    site.submitted(first.job.id, 5).await;
    room.cancel_job(first.job.id, "cli").await.unwrap();
    room.wait_job(first.job.id, LONG).await.unwrap();
    let third = site.begin(new_job(1)).await;
    let listed: Vec<CommandId> = room.jobs().iter().map(|job| job.id).collect();
    assert_eq!(listed, [third, second], "the newest first, the oldest that ended is gone");
    let stored = site.node.log.state_scan(JOBS_TREE, first.job.id.as_bytes(), None, 100).unwrap();
    let targets = site.node.log.state_get(TARGETS_TREE, &targets_key(first.job.id, 0)).unwrap();
    assert!(stored.is_empty() && targets.is_none(), "and it is deleted");
    site.add(5..6).await;
    room.cancel_job(third, "cli").await.unwrap();
    room.wait_job(third, LONG).await.unwrap();
    assert!(matches!(refused(|_| {}).await, StartError::TooManyDevices { max: 5 }));
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_a_job_that_never_started_are_deleted() {
    let backend = backend();
    let site = Site::start(&backend, Config::default());
    site.add(0..2).await;
    let id = site.begin(new_job(1)).await;
    let never = CommandId::v7(1, [1; 10]);
    let ticket = {
        let mut open = site.node.log.lock();
        for number in 0..3 {
            open.put_state(TARGETS_TREE, &targets_key(never, number), Some(b"x"));
        }
        open.ticket()
    };
    site.node.log.durable(ticket).await.unwrap();
    site.node.end().await;
    let site = Site::start(&backend, Config::default());
    let left = || site.node.log.state_scan(TARGETS_TREE, &[], None, 10).unwrap();
    until("they are deleted", || (left().len() == 1).then_some(())).await;
    assert_eq!(left()[0].0, targets_key(id, 0), "those of a job stay");
    assert_eq!(site.node.room.job_devices(id, None, None, 10).unwrap().devices[1].device, "pump-001");
    site.node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_found_after_a_restart_has_an_unknown_end() {
    let backend = backend();
    let site = Site::start(&backend, Config::default());
    site.add(0..2).await;
    let id = site.begin(new_job(1_000)).await;
    site.submitted(id, 2).await;
    let lost = CommandId::of_job(id, 1);
    let is_stored = || site.node.log.state_get(COMMANDS_TREE, lost.as_bytes()).unwrap().map(drop);
    until("it is stored", is_stored).await;
    until("the log before it is done with", || {
        let topic = site.node.log.topic(devices::command::COMMANDS_TOPIC).unwrap();
        let done = |p: &Arc<crate::event_log::PartitionLog>| {
            let next = site.node.log.cursor(crate::commands::READER, p.id()).unwrap().unwrap_or(0);
            next == p.visible_end()
        };
        topic.all_partitions().iter().all(done).then_some(())
    })
    .await;
    let log = Arc::clone(&site.node.log);
    log.lock().put_state(COMMANDS_TREE, lost.as_bytes(), None);
    site.node.end().await;
    let site = Site::start(&backend, Config::default());
    until("it is counted", || (site.job(id).outcomes.unknown == 1).then_some(())).await;
    site.node.end().await;
}
