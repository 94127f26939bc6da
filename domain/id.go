package domain

import "github.com/google/uuid"

// ID identifies an originator within its application. It is another name for
// uuid.UUID, so both can be used; uuid.New makes a random one.
type ID = uuid.UUID

// NewIDv5 returns the id that belongs to a name (UUID version 5 in the URL
// namespace), so that an aggregate can be found by what it is called:
// NewIDv5("/dogs/Fido"). Python's uuid5(NAMESPACE_URL, name) is the same.
func NewIDv5(name string) ID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte(name)) }
