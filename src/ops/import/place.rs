//! Where the old collection is, and what is to be done before workers can write beside it.

use crate::base::error::{Error, Result};
use crate::port::vector::VectorAdmin;
use crate::record::collection::{CollectionSpec, physical_name};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The old collection, as it is called once room is made.
    pub old: String,
    /// It has the configured name itself now, which is to be an alias.
    pub is_in_the_way: bool,
    /// There is no collection of ours yet.
    pub is_first: bool,
}

/// `from`: the old collection's name, where it is not the configured one. Changes nothing.
pub fn find(admin: &mut dyn VectorAdmin, name: &str, from: Option<&str>) -> Result<Place> {
    let alias = admin.alias(name)?;
    let there = admin.collections()?;
    let is_there = |wanted: &str| there.iter().any(|found| found == wanted);
    let (aside, is_first) = (aside(name), alias.is_none());
    let is_in_the_way = is_first && is_there(name);
    match from.filter(|from| *from != name) {
        Some(from) if alias.as_deref() == Some(from) => {
            Err(Error::refuse(format!("{from} is the collection that {name} stands for, and what the workers write to")))
        }
        Some(from) if !is_there(from) => {
            Err(Error::refuse(format!("there is no collection {from}; there are {}", there.join(", "))))
        }
        Some(_) if is_in_the_way => Err(Error::refuse(format!(
            "another collection has the name {name} itself: leave --from out to take that one on, or rename it"
        ))),
        Some(from) => Ok(Place { old: from.to_owned(), is_in_the_way, is_first }),
        None if is_in_the_way && is_there(&aside) => Err(Error::refuse(format!(
            "{name} is to be renamed to {aside}, and there is a collection of that name: rename or drop that one"
        ))),
        None if is_in_the_way || is_there(&aside) => Ok(Place { old: aside, is_in_the_way, is_first }),
        None => Err(Error::refuse(format!("there is no collection {name} to take on; say what it is called by --from NAME"))),
    }
}

/// Killed in between, the next [`find`] finds what is left to do.
pub fn make_room(admin: &mut dyn VectorAdmin, spec: &CollectionSpec, place: &Place) -> Result<()> {
    if place.is_in_the_way {
        admin.rename(&spec.name, &place.old)?;
    }
    if place.is_first {
        let physical = physical_name(&spec.name, 1);
        admin.create(&physical, spec)?;
        admin.point_alias(&spec.name, &physical)?;
    }
    Ok(())
}

/// What a collection is called that had the configured name.
fn aside(name: &str) -> String {
    format!("{name}__before")
}
