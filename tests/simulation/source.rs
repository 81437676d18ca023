//! Who sends commands: people and plugins, with keys, priorities and short times; and what guards say.

use devices::command::{CommandId, Queued, Repeat, StepEvent};
use edgeway::security::Judgement;

use super::disk::{Disk, Logged};
use super::node::Node;
use crate::seeded::random::Random;

/// The longest time for delivery, and for the execution, that is asked for, in milliseconds.
pub const WITHIN_MAX_MS: u64 = 4_000;

/// A submission that its source has not been told to be safe.
#[derive(Debug, Clone)]
pub struct Submitted {
    pub id: CommandId,
    pub device: String,
    pub queued: Queued,
    /// The commit that it is in.
    pub ticket: usize,
}

/// The sources, and what they wait for.
#[derive(Debug, Default)]
pub struct Sources {
    count: u64,
    pub under_way: Vec<Submitted>,
    /// Submissions with a key whose fate the source does not know: it tries again.
    pub unsure: Vec<(String, Queued)>,
    pub ids: Vec<CommandId>,
}

impl Sources {
    /// A new command of some kind, appended as `submit` does it or as a plugin does.
    pub fn submit(&mut self, devices: usize, node: &Node, disk: &mut Disk, wall: u64, random: &mut Random) {
        let device = format!("device-{}", random.place(devices));
        self.count += 1;
        let key = random.chance(200).then(|| format!("key-{}", self.count));
        let supersede = random.chance(350).then(|| format!("set-{}", random.below(2)));
        let name = supersede.clone().unwrap_or_else(|| "do".to_owned());
        let queued = Queued {
            execution_timeout_ms: Some(random.between(300, WITHIN_MAX_MS)),
            urgent: random.chance(250),
            supersede,
            idempotency_key: key,
            repeat: if random.chance(300) { Repeat::Never } else { Repeat::Safe },
            deliveries_max: random.chance(200).then_some(2),
            ..Queued::new(&name, b"x".to_vec(), wall + random.between(50, WITHIN_MAX_MS), "cli")
        };
        self.append(device, queued, node, disk, wall, random);
    }

    /// A submission is made again under its key, as the source does not know whether it was taken.
    pub fn try_again(&mut self, node: &Node, disk: &mut Disk, wall: u64, random: &mut Random) {
        let Some((device, mut queued)) = self.unsure.pop() else { return };
        queued.deliver_by_ms = wall + random.between(50, WITHIN_MAX_MS);
        self.append(device, queued, node, disk, wall, random);
    }

    fn append(&mut self, device: String, queued: Queued, node: &Node, disk: &mut Disk, wall: u64, random: &mut Random) {
        // Plugins append without asking; people are told that a key is known, or that there is no room.
        let is_plugin = random.chance(300);
        if let Some(key) = queued.idempotency_key.as_deref().filter(|_| !is_plugin) {
            let is_same = |other: &Submitted| other.queued.idempotency_key.as_deref() == Some(key);
            if node.table.by_key(key).is_some() || self.under_way.iter().any(is_same) {
                return;
            }
        }
        if !is_plugin && !node.table.would_take(&device, 16, queued.urgent) {
            return;
        }
        let mut tail = [0; 10];
        tail[..8].copy_from_slice(&random.next().to_be_bytes());
        let id = CommandId::v7(wall, tail);
        let event = StepEvent::queued(id, wall, queued.clone());
        for _ in 0..if is_plugin && random.chance(100) { 2 } else { 1 } {
            disk.open.steps.push(Logged { device: device.clone(), event: event.clone(), is_own: false });
        }
        let ticket = disk.ticket();
        self.ids.push(id);
        self.under_way.push(Submitted { id, device, queued, ticket });
    }

    /// Those that can be told that their commands are safe.
    pub fn told(&mut self, is_safe: impl Fn(usize) -> bool) -> Vec<CommandId> {
        self.under_way.extract_if(.., |submitted| is_safe(submitted.ticket)).map(|submitted| submitted.id).collect()
    }

    /// The node has died: nobody knows what became of what was under way.
    pub fn node_died(&mut self) {
        let keyed = self.under_way.drain(..).filter(|submitted| submitted.queued.idempotency_key.is_some());
        self.unsure.extend(keyed.map(|submitted| (submitted.device, submitted.queued)));
    }

    /// A command of late, for whoever wants to call one off or to lie about one.
    pub fn recent(&self, random: &mut Random) -> Option<CommandId> {
        let from = self.ids.len().saturating_sub(10);
        self.ids[from..].get(random.place(10)).copied()
    }
}

/// What the guards say of a command.
pub fn judge(random: &mut Random) -> Judgement {
    let guard = "interlock".to_owned();
    match random.below(10) {
        0 => Judgement::Deny { guard, reason: "no".to_owned() },
        1 => Judgement::Failed { guard, reason: "late".to_owned() },
        2 => Judgement::Rewrite { guard, payload: b"less".to_vec() },
        _ => Judgement::Allow,
    }
}
