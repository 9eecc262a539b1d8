//! A topology's processors, one instance each for this task, and the walk of a message through them.

use crate::base::error::Result;
use crate::topology::build::Topology;
use crate::topology::node::{Context, Effect, Message, Processor};
use smallvec::SmallVec;
use std::sync::Arc;

struct Node {
    name: Arc<str>,
    processor: Box<dyn Processor>,
    children: Vec<usize>,
}

pub struct Graph {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

/// An effect other than a forward, and the node that had it.
pub type NodeEffect = (Arc<str>, Effect);

impl Graph {
    pub fn instantiate(topology: &Topology) -> Self {
        let nodes = topology.nodes.iter().map(|node| Node {
            name: Arc::from(node.name.as_str()),
            processor: (node.maker)(),
            children: node.children.clone(),
        });
        Self { nodes: nodes.collect(), roots: topology.roots.clone() }
    }

    /// Walks one message from the source's children to the last effect. `context_for` lends a context around
    /// the given effects: one context a node, so that an effect is known by its node.
    pub fn walk(
        &mut self,
        message: Message,
        effects_out: &mut Vec<NodeEffect>,
        mut process: impl FnMut(&mut dyn Processor, Message, &mut SmallVec<[Effect; 4]>) -> Result<()>,
    ) -> Result<()> {
        let mut ahead: SmallVec<[(usize, Message); 4]> = SmallVec::new();
        push_all(&mut ahead, &self.roots, message);
        let mut effects: SmallVec<[Effect; 4]> = SmallVec::new();
        while let Some((index, message)) = ahead.pop() {
            let node = &mut self.nodes[index];
            process(node.processor.as_mut(), message, &mut effects).map_err(|error| error.context(&node.name))?;
            for effect in effects.drain(..) {
                match effect {
                    Effect::Forward(message) => push_all(&mut ahead, &node.children, message),
                    other => effects_out.push((node.name.clone(), other)),
                }
            }
        }
        Ok(())
    }
}

/// The message goes to each child, in order; only where there are several is it copied.
fn push_all(ahead: &mut SmallVec<[(usize, Message); 4]>, children: &[usize], message: Message) {
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
