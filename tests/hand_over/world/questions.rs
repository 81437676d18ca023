//! Questions between nodes: they come late, their answers are lost, and who is asked dies in between.

use super::*;
use crate::hand_over::node::{Answer, Batch};
use edgeway::commands::MovedV2;

/// How long who asks waits for an answer, in milliseconds.
const WAIT_MS: u64 = 600;

/// A question, and how far it is.
pub struct Question {
    number: u64,
    from: usize,
    /// The life that asks.
    life: u64,
    batch: Batch,
    /// The life that is asked: a question is on a connection, which ends with it.
    asked: Option<u64>,
    /// When it comes to the other node.
    comes_at: u64,
    /// When who asks gives it up.
    given_up_at: u64,
    /// It has come.
    has_come: bool,
    /// When the answer comes back.
    answer: Option<(u64, Vec<MovedV2>)>,
    /// Whoever asked has heard what came of it.
    is_told: bool,
}

impl World {
    /// What a node wants to ask goes out.
    pub(super) fn take_asks(&mut self, from: usize) {
        let Some(node) = &mut self.machines[from].node else { return };
        let life = node.number;
        let asks = std::mem::take(&mut node.asks);
        for batch in asks {
            if !self.hears(from, batch.to) {
                self.tell(from, life, batch, Answer::Unreachable);
                continue;
            }
            if let Some(node) = &mut self.machines[from].node {
                node.is_out(batch.to);
            }
            let asked = self.machines[batch.to].node.as_ref().map(|node| node.number);
            self.next_question += 1;
            let is_late = !self.is_calm && self.random.chance(100);
            let comes_at = self.history.time + if is_late { self.random.below(4_000) } else { self.random.below(100) };
            self.questions.push(Question {
                number: self.next_question,
                from,
                life,
                batch,
                asked,
                comes_at,
                given_up_at: self.history.time + WAIT_MS,
                has_come: false,
                answer: None,
                is_told: false,
            });
        }
    }

    fn tell(&mut self, to: usize, life: u64, batch: Batch, answer: Answer) {
        if let Some(node) = self.machines[to].node.as_mut().filter(|node| node.number == life) {
            node.told(batch, answer);
        }
    }

    pub(super) fn carry_questions(&mut self) {
        let now = self.history.time;
        let mut questions = std::mem::take(&mut self.questions);
        for question in questions.iter_mut().filter(|question| !question.has_come && question.comes_at <= now) {
            question.has_come = true;
            self.come_to(question);
        }
        self.take_replies(&mut questions);
        for question in &mut questions {
            let answered = question.answer.take_if(|(at, _)| *at <= now);
            let said = match answered {
                Some((_, said)) => Some(Answer::Said(said)),
                None if question.given_up_at <= now => Some(Answer::Unanswered),
                None => None,
            };
            if let Some(said) = said.filter(|_| !question.is_told) {
                question.is_told = true;
                self.tell(question.from, question.life, question.batch.clone(), said);
            }
        }
        questions.retain(|question| !question.is_told || !question.has_come);
        self.questions.extend(questions);
    }

    fn come_to(&mut self, question: &Question) {
        let (to, is_late) = (question.batch.to, question.is_told);
        // One that is on its way may come although the way is broken by then.
        let lives = self.machines[to].node.as_ref().map(|node| node.number);
        let is_lost =
            lives.is_none() || lives != question.asked || (!self.hears(question.from, to) && self.random.chance(700));
        let what = match (is_lost, is_late) {
            (true, _) => "a question is lost",
            (false, true) => "a question comes late",
            (false, false) => "a question comes",
        };
        self.history.note(Fact::Weather { node: to, what });
        if is_lost {
            return;
        }
        let now = self.now(to);
        let machine = &mut self.machines[to];
        let Some(node) = &mut machine.node else { return };
        node.asked(question.number, &question.batch.moves, &mut machine.log, now, machine.is_full, &mut self.history);
        if !self.is_calm && self.random.chance(60) {
            self.history.note(Fact::Weather { node: to, what: "it dies when it was asked" });
            let down_ms = if self.random.chance(500) { 5_000 } else { 200 };
            self.kill(to, down_ms);
        }
    }

    /// Answers of what is durable go out.
    fn take_replies(&mut self, questions: &mut [Question]) {
        for place in 0..NODES {
            let machine = &mut self.machines[place];
            let (Some(node), log) = (&mut machine.node, &machine.log) else { continue };
            let ready = node.replies.extract_if(.., |reply| reply.ticket.is_none_or(|ticket| log.is_durable(ticket)));
            for reply in ready.collect::<Vec<_>>() {
                let Some(question) = questions.iter_mut().find(|one| one.number == reply.question) else { continue };
                let is_lost = !self.hears(place, question.from) || (!self.is_calm && self.random.chance(150));
                if is_lost {
                    self.history.note(Fact::Weather { node: place, what: "an answer is lost" });
                } else {
                    question.answer = Some((self.history.time + self.random.below(100), reply.said));
                }
            }
        }
    }
}
