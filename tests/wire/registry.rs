//! One registry of errors in two places: the proto and `refusal::ErrorCode` must agree.

use std::collections::BTreeSet;

use roamd::{refusal::ErrorCode, wire::proto};

#[test]
fn the_proto_and_the_registry_name_the_same_errors() {
    let wire: BTreeSet<(i32, String)> = (1..10_000)
        .filter_map(|number| proto::ErrorCode::try_from(number).ok())
        .map(|code| {
            let name = code.as_str_name().strip_prefix("ERROR_CODE_").unwrap();
            (code as i32, name.to_owned())
        })
        .collect();
    let registry: BTreeSet<(i32, String)> =
        ErrorCode::ALL.iter().map(|code| (code.number(), code.name().to_owned())).collect();
    assert_eq!(wire, registry);
    assert_eq!(registry.len(), ErrorCode::ALL.len(), "a number or name occurs twice");
}
