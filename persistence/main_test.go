package persistence_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const school = "TrainingSchool"

var errBroken = errors.New("recorder is broken")

var sampleID = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")

func dogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }
