//! A topology's processors, one instance each for this task, and the walk of a message through them.

use crate::base::error::Result;
use crate::topology::build::Topology;
use crate::topology::node::{Context, Effect, Message, Processor};
use std::sync::Arc;

struct Node {
    name: Arc<str>,
    processor: Box<dyn Processor>,
    children: Vec<usize>,
}

pub struct Graph {
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Empty between two walks.
    way: Way,
}

/// Where a message goes next. Kept between walks, and messages are moved as seldom as can be: they are large.
#[derive(Default)]
struct Way {
    ahead: Vec<(usize, Message)>,
    forwarded: Vec<Message>,
    effects: Vec<Effect>,
}

/// An effect, and the node that had it.
pub type NodeEffect = (Arc<str>, Effect);

impl Graph {
    pub fn instantiate(topology: &Topology) -> Self {
        let nodes = topology.nodes.iter().map(|node| Node {
            name: Arc::from(node.name.as_str()),
            processor: (node.maker)(),
            children: node.children.clone(),
        });
        Self { nodes: nodes.collect(), roots: topology.roots.clone(), way: Way::default() }
    }

    /// Walks one message from the source's children to the last effect. `process` lends a context around the given
    /// messages and effects: one context a node, so that an effect is known by its node.
    pub fn walk(
        &mut self,
        message: Message,
        effects_out: &mut Vec<NodeEffect>,
        mut process: impl FnMut(&mut dyn Processor, Message, &mut Vec<Message>, &mut Vec<Effect>) -> Result<()>,
    ) -> Result<()> {
        let Way { ahead, forwarded, effects } = &mut self.way;
        push_all(ahead, &self.roots, message);
        while let Some((index, message)) = ahead.pop() {
            let node = &mut self.nodes[index];
            if let Err(error) = process(node.processor.as_mut(), message, forwarded, effects) {
                self.way = Way::default();
                return Err(error.context(&node.name));
            }
            effects_out.extend(effects.drain(..).map(|effect| (node.name.clone(), effect)));
            while let Some(message) = forwarded.pop() {
                push_all(ahead, &node.children, message);
            }
        }
        Ok(())
    }
}

/// The message goes to each child, in order; only where there are several is it copied.
fn push_all(ahead: &mut Vec<(usize, Message)>, children: &[usize], message: Message) {
    let Some((first, others)) = children.split_first() else { return };
    for child in others.iter().rev() {
        ahead.push((*child, message.clone()));
    }
    ahead.push((*first, message));
}

/// Lends a processor its context; kept here so that the borrow of `effects` is seen to end with the call.
pub fn run(processor: &mut dyn Processor, message: Message, mut context: Context<'_>) -> Result<()> {
    processor.process(message, &mut context)
}
