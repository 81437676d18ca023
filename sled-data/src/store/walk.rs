//! Batches of a partition's tree, put together from their parts, in either direction.

use std::ops::ControlFlow;

use super::keys;
use crate::backend::{BackendError, Direction, Span, Tree};
use crate::batch::{ENVELOPE_BYTES, payload};
use crate::ids::Offset;

/// Shows base offset and bytes of each batch of a span of keys; the bytes are not checked yet.
pub(super) fn walk(
    tree: &dyn Tree,
    span: Span<'_>,
    direction: Direction,
    visit: &mut dyn FnMut(Offset, Vec<u8>) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    match direction {
        Direction::Forward => walk_forward(tree, span, visit),
        Direction::Back => walk_back(tree, span, visit),
    }
}

fn walk_forward(
    tree: &dyn Tree,
    span: Span<'_>,
    visit: &mut dyn FnMut(Offset, Vec<u8>) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    let mut open: Option<(Offset, u16, Vec<u8>)> = None;
    let mut stopped = false;
    tree.scan(span, Direction::Forward, &mut |key, value| {
        let Some((base, part)) = keys::batch_of(key) else {
            return ControlFlow::Continue(());
        };
        if part > 0 {
            // A part that is not the next one is left out, and the checks of the batch find that.
            if let Some((open_base, parts, bytes)) = &mut open
                && *open_base == base
                && *parts == part
            {
                *parts += 1;
                bytes.extend_from_slice(payload(value));
            }
            return ControlFlow::Continue(());
        }
        let mut flow = ControlFlow::Continue(());
        if let Some((base, _, bytes)) = open.take() {
            flow = visit(base, bytes);
        }
        if flow.is_continue() {
            if is_whole(value) {
                flow = visit(base, value.to_vec());
            } else {
                open = Some((base, 1, value.to_vec()));
            }
        }
        stopped = flow.is_break();
        flow
    })?;
    if let (false, Some((base, _, bytes))) = (stopped, open) {
        let _ = visit(base, bytes);
    }
    Ok(())
}

fn walk_back(
    tree: &dyn Tree,
    span: Span<'_>,
    visit: &mut dyn FnMut(Offset, Vec<u8>) -> ControlFlow<()>,
) -> Result<(), BackendError> {
    // Parts, the last one first, until the batch's first part comes.
    let mut parts: Vec<(Offset, Vec<u8>)> = Vec::new();
    tree.scan(span, Direction::Back, &mut |key, value| {
        let Some((base, part)) = keys::batch_of(key) else {
            return ControlFlow::Continue(());
        };
        if part > 0 {
            parts.push((base, value.to_vec()));
            return ControlFlow::Continue(());
        }
        let mut bytes = value.to_vec();
        for (part_base, part) in parts.drain(..).rev() {
            if part_base == base {
                bytes.extend_from_slice(payload(&part));
            }
        }
        visit(base, bytes)
    })
}

/// Whether the first part says that it is the only one.
fn is_whole(first: &[u8]) -> bool {
    match first.get(64..68) {
        Some(&[a, b, c, d]) => ENVELOPE_BYTES + u32::from_be_bytes([a, b, c, d]) as usize <= first.len(),
        _ => true,
    }
}

/// Base offset of the last batch that begins at or before `offset`.
pub(super) fn base_at_or_before(tree: &dyn Tree, offset: Offset) -> Result<Option<Offset>, BackendError> {
    let to = offset.checked_add(1).map(keys::batch);
    let span = Span { from: &[], to: to.as_ref().map(|to| to.as_slice()) };
    first_base(tree, span, Direction::Back)
}

/// Base offset of the first batch that begins after `offset`.
pub(super) fn base_after(tree: &dyn Tree, offset: Offset) -> Result<Option<Offset>, BackendError> {
    let Some(from) = offset.checked_add(1).map(keys::batch) else {
        return Ok(None);
    };
    first_base(tree, Span::from(&from), Direction::Forward)
}

fn first_base(tree: &dyn Tree, span: Span<'_>, direction: Direction) -> Result<Option<Offset>, BackendError> {
    let mut found = None;
    tree.scan(span, direction, &mut |key, _| match keys::batch_of(key) {
        Some((base, _)) => {
            found = Some(base);
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    })?;
    Ok(found)
}
