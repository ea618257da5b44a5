// @generated
impl serde::Serialize for Envelope {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if self.msg.is_some() {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.Envelope", len)?;
        if let Some(v) = self.msg.as_ref() {
            match v {
                envelope::Msg::PullIntentRequest(v) => {
                    struct_ser.serialize_field("pullIntentRequest", v)?;
                }
                envelope::Msg::PullIntentResponse(v) => {
                    struct_ser.serialize_field("pullIntentResponse", v)?;
                }
                envelope::Msg::PleasePullRequest(v) => {
                    struct_ser.serialize_field("pleasePullRequest", v)?;
                }
                envelope::Msg::PleasePullResponse(v) => {
                    struct_ser.serialize_field("pleasePullResponse", v)?;
                }
            }
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for Envelope {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "pull_intent_request",
            "pullIntentRequest",
            "pull_intent_response",
            "pullIntentResponse",
            "please_pull_request",
            "pleasePullRequest",
            "please_pull_response",
            "pleasePullResponse",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            PullIntentRequest,
            PullIntentResponse,
            PleasePullRequest,
            PleasePullResponse,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "pullIntentRequest" | "pull_intent_request" => Ok(GeneratedField::PullIntentRequest),
                            "pullIntentResponse" | "pull_intent_response" => Ok(GeneratedField::PullIntentResponse),
                            "pleasePullRequest" | "please_pull_request" => Ok(GeneratedField::PleasePullRequest),
                            "pleasePullResponse" | "please_pull_response" => Ok(GeneratedField::PleasePullResponse),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = Envelope;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.Envelope")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<Envelope, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut msg__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::PullIntentRequest => {
                            if msg__.is_some() {
                                return Err(serde::de::Error::duplicate_field("pullIntentRequest"));
                            }
                            msg__ = map_.next_value::<::std::option::Option<_>>()?.map(envelope::Msg::PullIntentRequest)
;
                        }
                        GeneratedField::PullIntentResponse => {
                            if msg__.is_some() {
                                return Err(serde::de::Error::duplicate_field("pullIntentResponse"));
                            }
                            msg__ = map_.next_value::<::std::option::Option<_>>()?.map(envelope::Msg::PullIntentResponse)
;
                        }
                        GeneratedField::PleasePullRequest => {
                            if msg__.is_some() {
                                return Err(serde::de::Error::duplicate_field("pleasePullRequest"));
                            }
                            msg__ = map_.next_value::<::std::option::Option<_>>()?.map(envelope::Msg::PleasePullRequest)
;
                        }
                        GeneratedField::PleasePullResponse => {
                            if msg__.is_some() {
                                return Err(serde::de::Error::duplicate_field("pleasePullResponse"));
                            }
                            msg__ = map_.next_value::<::std::option::Option<_>>()?.map(envelope::Msg::PleasePullResponse)
;
                        }
                    }
                }
                Ok(Envelope {
                    msg: msg__,
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.Envelope", FIELDS, GeneratedVisitor)
    }
}
impl serde::Serialize for FailureClass {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        let variant = match self {
            Self::Unspecified => "FAILURE_CLASS_UNSPECIFIED",
            Self::Auth => "FAILURE_CLASS_AUTH",
            Self::NotFound => "FAILURE_CLASS_NOT_FOUND",
            Self::RateLimited => "FAILURE_CLASS_RATE_LIMITED",
            Self::Transient => "FAILURE_CLASS_TRANSIENT",
        };
        serializer.serialize_str(variant)
    }
}
impl<'de> serde::Deserialize<'de> for FailureClass {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "FAILURE_CLASS_UNSPECIFIED",
            "FAILURE_CLASS_AUTH",
            "FAILURE_CLASS_NOT_FOUND",
            "FAILURE_CLASS_RATE_LIMITED",
            "FAILURE_CLASS_TRANSIENT",
        ];

        struct GeneratedVisitor;

        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = FailureClass;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "expected one of: {:?}", &FIELDS)
            }

            fn visit_i64<E>(self, v: i64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Signed(v), &self)
                    })
            }

            fn visit_u64<E>(self, v: u64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Unsigned(v), &self)
                    })
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                match value {
                    "FAILURE_CLASS_UNSPECIFIED" => Ok(FailureClass::Unspecified),
                    "FAILURE_CLASS_AUTH" => Ok(FailureClass::Auth),
                    "FAILURE_CLASS_NOT_FOUND" => Ok(FailureClass::NotFound),
                    "FAILURE_CLASS_RATE_LIMITED" => Ok(FailureClass::RateLimited),
                    "FAILURE_CLASS_TRANSIENT" => Ok(FailureClass::Transient),
                    _ => Err(serde::de::Error::unknown_variant(value, FIELDS)),
                }
            }
        }
        deserializer.deserialize_any(GeneratedVisitor)
    }
}
impl serde::Serialize for PleasePullRequest {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if !self.digests.is_empty() {
            len += 1;
        }
        if !self.upstream_registry.is_empty() {
            len += 1;
        }
        if !self.repository.is_empty() {
            len += 1;
        }
        if self.kind != 0 {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.PleasePullRequest", len)?;
        if !self.digests.is_empty() {
            struct_ser.serialize_field("digests", &self.digests)?;
        }
        if !self.upstream_registry.is_empty() {
            struct_ser.serialize_field("upstreamRegistry", &self.upstream_registry)?;
        }
        if !self.repository.is_empty() {
            struct_ser.serialize_field("repository", &self.repository)?;
        }
        if self.kind != 0 {
            let v = please_pull_request::Kind::try_from(self.kind)
                .map_err(|_| serde::ser::Error::custom(format!("Invalid variant {}", self.kind)))?;
            struct_ser.serialize_field("kind", &v)?;
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for PleasePullRequest {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "digests",
            "upstream_registry",
            "upstreamRegistry",
            "repository",
            "kind",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            Digests,
            UpstreamRegistry,
            Repository,
            Kind,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "digests" => Ok(GeneratedField::Digests),
                            "upstreamRegistry" | "upstream_registry" => Ok(GeneratedField::UpstreamRegistry),
                            "repository" => Ok(GeneratedField::Repository),
                            "kind" => Ok(GeneratedField::Kind),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = PleasePullRequest;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.PleasePullRequest")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<PleasePullRequest, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut digests__ = None;
                let mut upstream_registry__ = None;
                let mut repository__ = None;
                let mut kind__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::Digests => {
                            if digests__.is_some() {
                                return Err(serde::de::Error::duplicate_field("digests"));
                            }
                            digests__ = Some(map_.next_value()?);
                        }
                        GeneratedField::UpstreamRegistry => {
                            if upstream_registry__.is_some() {
                                return Err(serde::de::Error::duplicate_field("upstreamRegistry"));
                            }
                            upstream_registry__ = Some(map_.next_value()?);
                        }
                        GeneratedField::Repository => {
                            if repository__.is_some() {
                                return Err(serde::de::Error::duplicate_field("repository"));
                            }
                            repository__ = Some(map_.next_value()?);
                        }
                        GeneratedField::Kind => {
                            if kind__.is_some() {
                                return Err(serde::de::Error::duplicate_field("kind"));
                            }
                            kind__ = Some(map_.next_value::<please_pull_request::Kind>()? as i32);
                        }
                    }
                }
                Ok(PleasePullRequest {
                    digests: digests__.unwrap_or_default(),
                    upstream_registry: upstream_registry__.unwrap_or_default(),
                    repository: repository__.unwrap_or_default(),
                    kind: kind__.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.PleasePullRequest", FIELDS, GeneratedVisitor)
    }
}
impl serde::Serialize for please_pull_request::Kind {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        let variant = match self {
            Self::Unspecified => "KIND_UNSPECIFIED",
            Self::Blob => "KIND_BLOB",
            Self::Manifest => "KIND_MANIFEST",
            Self::Config => "KIND_CONFIG",
        };
        serializer.serialize_str(variant)
    }
}
impl<'de> serde::Deserialize<'de> for please_pull_request::Kind {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "KIND_UNSPECIFIED",
            "KIND_BLOB",
            "KIND_MANIFEST",
            "KIND_CONFIG",
        ];

        struct GeneratedVisitor;

        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = please_pull_request::Kind;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "expected one of: {:?}", &FIELDS)
            }

            fn visit_i64<E>(self, v: i64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Signed(v), &self)
                    })
            }

            fn visit_u64<E>(self, v: u64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Unsigned(v), &self)
                    })
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                match value {
                    "KIND_UNSPECIFIED" => Ok(please_pull_request::Kind::Unspecified),
                    "KIND_BLOB" => Ok(please_pull_request::Kind::Blob),
                    "KIND_MANIFEST" => Ok(please_pull_request::Kind::Manifest),
                    "KIND_CONFIG" => Ok(please_pull_request::Kind::Config),
                    _ => Err(serde::de::Error::unknown_variant(value, FIELDS)),
                }
            }
        }
        deserializer.deserialize_any(GeneratedVisitor)
    }
}
impl serde::Serialize for PleasePullResponse {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if !self.results.is_empty() {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.PleasePullResponse", len)?;
        if !self.results.is_empty() {
            struct_ser.serialize_field("results", &self.results)?;
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for PleasePullResponse {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "results",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            Results,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "results" => Ok(GeneratedField::Results),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = PleasePullResponse;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.PleasePullResponse")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<PleasePullResponse, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut results__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::Results => {
                            if results__.is_some() {
                                return Err(serde::de::Error::duplicate_field("results"));
                            }
                            results__ = Some(map_.next_value()?);
                        }
                    }
                }
                Ok(PleasePullResponse {
                    results: results__.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.PleasePullResponse", FIELDS, GeneratedVisitor)
    }
}
impl serde::Serialize for please_pull_response::Result {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if !self.digest.is_empty() {
            len += 1;
        }
        if self.outcome != 0 {
            len += 1;
        }
        if self.started_at.is_some() {
            len += 1;
        }
        if self.cooldown_until.is_some() {
            len += 1;
        }
        if self.failure_class != 0 {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.PleasePullResponse.Result", len)?;
        if !self.digest.is_empty() {
            struct_ser.serialize_field("digest", &self.digest)?;
        }
        if self.outcome != 0 {
            let v = please_pull_response::result::Outcome::try_from(self.outcome)
                .map_err(|_| serde::ser::Error::custom(format!("Invalid variant {}", self.outcome)))?;
            struct_ser.serialize_field("outcome", &v)?;
        }
        if let Some(v) = self.started_at.as_ref() {
            struct_ser.serialize_field("startedAt", v)?;
        }
        if let Some(v) = self.cooldown_until.as_ref() {
            struct_ser.serialize_field("cooldownUntil", v)?;
        }
        if self.failure_class != 0 {
            let v = FailureClass::try_from(self.failure_class)
                .map_err(|_| serde::ser::Error::custom(format!("Invalid variant {}", self.failure_class)))?;
            struct_ser.serialize_field("failureClass", &v)?;
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for please_pull_response::Result {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "digest",
            "outcome",
            "started_at",
            "startedAt",
            "cooldown_until",
            "cooldownUntil",
            "failure_class",
            "failureClass",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            Digest,
            Outcome,
            StartedAt,
            CooldownUntil,
            FailureClass,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "digest" => Ok(GeneratedField::Digest),
                            "outcome" => Ok(GeneratedField::Outcome),
                            "startedAt" | "started_at" => Ok(GeneratedField::StartedAt),
                            "cooldownUntil" | "cooldown_until" => Ok(GeneratedField::CooldownUntil),
                            "failureClass" | "failure_class" => Ok(GeneratedField::FailureClass),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = please_pull_response::Result;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.PleasePullResponse.Result")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<please_pull_response::Result, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut digest__ = None;
                let mut outcome__ = None;
                let mut started_at__ = None;
                let mut cooldown_until__ = None;
                let mut failure_class__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::Digest => {
                            if digest__.is_some() {
                                return Err(serde::de::Error::duplicate_field("digest"));
                            }
                            digest__ = Some(map_.next_value()?);
                        }
                        GeneratedField::Outcome => {
                            if outcome__.is_some() {
                                return Err(serde::de::Error::duplicate_field("outcome"));
                            }
                            outcome__ = Some(map_.next_value::<please_pull_response::result::Outcome>()? as i32);
                        }
                        GeneratedField::StartedAt => {
                            if started_at__.is_some() {
                                return Err(serde::de::Error::duplicate_field("startedAt"));
                            }
                            started_at__ = map_.next_value()?;
                        }
                        GeneratedField::CooldownUntil => {
                            if cooldown_until__.is_some() {
                                return Err(serde::de::Error::duplicate_field("cooldownUntil"));
                            }
                            cooldown_until__ = map_.next_value()?;
                        }
                        GeneratedField::FailureClass => {
                            if failure_class__.is_some() {
                                return Err(serde::de::Error::duplicate_field("failureClass"));
                            }
                            failure_class__ = Some(map_.next_value::<FailureClass>()? as i32);
                        }
                    }
                }
                Ok(please_pull_response::Result {
                    digest: digest__.unwrap_or_default(),
                    outcome: outcome__.unwrap_or_default(),
                    started_at: started_at__,
                    cooldown_until: cooldown_until__,
                    failure_class: failure_class__.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.PleasePullResponse.Result", FIELDS, GeneratedVisitor)
    }
}
impl serde::Serialize for please_pull_response::result::Outcome {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        let variant = match self {
            Self::Unspecified => "OUTCOME_UNSPECIFIED",
            Self::AlreadyPulling => "OUTCOME_ALREADY_PULLING",
            Self::Started => "OUTCOME_STARTED",
            Self::RecentlyFailed => "OUTCOME_RECENTLY_FAILED",
        };
        serializer.serialize_str(variant)
    }
}
impl<'de> serde::Deserialize<'de> for please_pull_response::result::Outcome {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "OUTCOME_UNSPECIFIED",
            "OUTCOME_ALREADY_PULLING",
            "OUTCOME_STARTED",
            "OUTCOME_RECENTLY_FAILED",
        ];

        struct GeneratedVisitor;

        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = please_pull_response::result::Outcome;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "expected one of: {:?}", &FIELDS)
            }

            fn visit_i64<E>(self, v: i64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Signed(v), &self)
                    })
            }

            fn visit_u64<E>(self, v: u64) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                i32::try_from(v)
                    .ok()
                    .and_then(|x| x.try_into().ok())
                    .ok_or_else(|| {
                        serde::de::Error::invalid_value(serde::de::Unexpected::Unsigned(v), &self)
                    })
            }

            fn visit_str<E>(self, value: &str) -> std::result::Result<Self::Value, E>
            where
                E: serde::de::Error,
            {
                match value {
                    "OUTCOME_UNSPECIFIED" => Ok(please_pull_response::result::Outcome::Unspecified),
                    "OUTCOME_ALREADY_PULLING" => Ok(please_pull_response::result::Outcome::AlreadyPulling),
                    "OUTCOME_STARTED" => Ok(please_pull_response::result::Outcome::Started),
                    "OUTCOME_RECENTLY_FAILED" => Ok(please_pull_response::result::Outcome::RecentlyFailed),
                    _ => Err(serde::de::Error::unknown_variant(value, FIELDS)),
                }
            }
        }
        deserializer.deserialize_any(GeneratedVisitor)
    }
}
impl serde::Serialize for PullIntentRequest {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if !self.digest.is_empty() {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.PullIntentRequest", len)?;
        if !self.digest.is_empty() {
            struct_ser.serialize_field("digest", &self.digest)?;
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for PullIntentRequest {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "digest",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            Digest,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "digest" => Ok(GeneratedField::Digest),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = PullIntentRequest;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.PullIntentRequest")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<PullIntentRequest, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut digest__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::Digest => {
                            if digest__.is_some() {
                                return Err(serde::de::Error::duplicate_field("digest"));
                            }
                            digest__ = Some(map_.next_value()?);
                        }
                    }
                }
                Ok(PullIntentRequest {
                    digest: digest__.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.PullIntentRequest", FIELDS, GeneratedVisitor)
    }
}
impl serde::Serialize for PullIntentResponse {
    #[allow(deprecated)]
    fn serialize<S>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error>
    where
        S: serde::Serializer,
    {
        use serde::ser::SerializeStruct;
        let mut len = 0;
        if self.has_cached {
            len += 1;
        }
        if self.in_flight {
            len += 1;
        }
        if self.started_at.is_some() {
            len += 1;
        }
        if self.hrw_rank != 0 {
            len += 1;
        }
        if self.recently_failed {
            len += 1;
        }
        if self.cooldown_until.is_some() {
            len += 1;
        }
        if self.failure_class != 0 {
            len += 1;
        }
        let mut struct_ser = serializer.serialize_struct("gantry.coord.v1.PullIntentResponse", len)?;
        if self.has_cached {
            struct_ser.serialize_field("hasCached", &self.has_cached)?;
        }
        if self.in_flight {
            struct_ser.serialize_field("inFlight", &self.in_flight)?;
        }
        if let Some(v) = self.started_at.as_ref() {
            struct_ser.serialize_field("startedAt", v)?;
        }
        if self.hrw_rank != 0 {
            struct_ser.serialize_field("hrwRank", &self.hrw_rank)?;
        }
        if self.recently_failed {
            struct_ser.serialize_field("recentlyFailed", &self.recently_failed)?;
        }
        if let Some(v) = self.cooldown_until.as_ref() {
            struct_ser.serialize_field("cooldownUntil", v)?;
        }
        if self.failure_class != 0 {
            let v = FailureClass::try_from(self.failure_class)
                .map_err(|_| serde::ser::Error::custom(format!("Invalid variant {}", self.failure_class)))?;
            struct_ser.serialize_field("failureClass", &v)?;
        }
        struct_ser.end()
    }
}
impl<'de> serde::Deserialize<'de> for PullIntentResponse {
    #[allow(deprecated)]
    fn deserialize<D>(deserializer: D) -> std::result::Result<Self, D::Error>
    where
        D: serde::Deserializer<'de>,
    {
        const FIELDS: &[&str] = &[
            "has_cached",
            "hasCached",
            "in_flight",
            "inFlight",
            "started_at",
            "startedAt",
            "hrw_rank",
            "hrwRank",
            "recently_failed",
            "recentlyFailed",
            "cooldown_until",
            "cooldownUntil",
            "failure_class",
            "failureClass",
        ];

        #[allow(clippy::enum_variant_names)]
        enum GeneratedField {
            HasCached,
            InFlight,
            StartedAt,
            HrwRank,
            RecentlyFailed,
            CooldownUntil,
            FailureClass,
        }
        impl<'de> serde::Deserialize<'de> for GeneratedField {
            fn deserialize<D>(deserializer: D) -> std::result::Result<GeneratedField, D::Error>
            where
                D: serde::Deserializer<'de>,
            {
                struct GeneratedVisitor;

                impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
                    type Value = GeneratedField;

                    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        write!(formatter, "expected one of: {:?}", &FIELDS)
                    }

                    #[allow(unused_variables)]
                    fn visit_str<E>(self, value: &str) -> std::result::Result<GeneratedField, E>
                    where
                        E: serde::de::Error,
                    {
                        match value {
                            "hasCached" | "has_cached" => Ok(GeneratedField::HasCached),
                            "inFlight" | "in_flight" => Ok(GeneratedField::InFlight),
                            "startedAt" | "started_at" => Ok(GeneratedField::StartedAt),
                            "hrwRank" | "hrw_rank" => Ok(GeneratedField::HrwRank),
                            "recentlyFailed" | "recently_failed" => Ok(GeneratedField::RecentlyFailed),
                            "cooldownUntil" | "cooldown_until" => Ok(GeneratedField::CooldownUntil),
                            "failureClass" | "failure_class" => Ok(GeneratedField::FailureClass),
                            _ => Err(serde::de::Error::unknown_field(value, FIELDS)),
                        }
                    }
                }
                deserializer.deserialize_identifier(GeneratedVisitor)
            }
        }
        struct GeneratedVisitor;
        impl<'de> serde::de::Visitor<'de> for GeneratedVisitor {
            type Value = PullIntentResponse;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("struct gantry.coord.v1.PullIntentResponse")
            }

            fn visit_map<V>(self, mut map_: V) -> std::result::Result<PullIntentResponse, V::Error>
                where
                    V: serde::de::MapAccess<'de>,
            {
                let mut has_cached__ = None;
                let mut in_flight__ = None;
                let mut started_at__ = None;
                let mut hrw_rank__ = None;
                let mut recently_failed__ = None;
                let mut cooldown_until__ = None;
                let mut failure_class__ = None;
                while let Some(k) = map_.next_key()? {
                    match k {
                        GeneratedField::HasCached => {
                            if has_cached__.is_some() {
                                return Err(serde::de::Error::duplicate_field("hasCached"));
                            }
                            has_cached__ = Some(map_.next_value()?);
                        }
                        GeneratedField::InFlight => {
                            if in_flight__.is_some() {
                                return Err(serde::de::Error::duplicate_field("inFlight"));
                            }
                            in_flight__ = Some(map_.next_value()?);
                        }
                        GeneratedField::StartedAt => {
                            if started_at__.is_some() {
                                return Err(serde::de::Error::duplicate_field("startedAt"));
                            }
                            started_at__ = map_.next_value()?;
                        }
                        GeneratedField::HrwRank => {
                            if hrw_rank__.is_some() {
                                return Err(serde::de::Error::duplicate_field("hrwRank"));
                            }
                            hrw_rank__ = 
                                Some(map_.next_value::<::pbjson::private::NumberDeserialize<_>>()?.0)
                            ;
                        }
                        GeneratedField::RecentlyFailed => {
                            if recently_failed__.is_some() {
                                return Err(serde::de::Error::duplicate_field("recentlyFailed"));
                            }
                            recently_failed__ = Some(map_.next_value()?);
                        }
                        GeneratedField::CooldownUntil => {
                            if cooldown_until__.is_some() {
                                return Err(serde::de::Error::duplicate_field("cooldownUntil"));
                            }
                            cooldown_until__ = map_.next_value()?;
                        }
                        GeneratedField::FailureClass => {
                            if failure_class__.is_some() {
                                return Err(serde::de::Error::duplicate_field("failureClass"));
                            }
                            failure_class__ = Some(map_.next_value::<FailureClass>()? as i32);
                        }
                    }
                }
                Ok(PullIntentResponse {
                    has_cached: has_cached__.unwrap_or_default(),
                    in_flight: in_flight__.unwrap_or_default(),
                    started_at: started_at__,
                    hrw_rank: hrw_rank__.unwrap_or_default(),
                    recently_failed: recently_failed__.unwrap_or_default(),
                    cooldown_until: cooldown_until__,
                    failure_class: failure_class__.unwrap_or_default(),
                })
            }
        }
        deserializer.deserialize_struct("gantry.coord.v1.PullIntentResponse", FIELDS, GeneratedVisitor)
    }
}
