package natsstore

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The name that PERSISTENCE_MODULE selects this package with. Every application
// gets its own connection.
func init() { environment.Register("natsstore", open) }

// open makes a store from these settings:
//
//	NATS_URL             the servers, with commas between them; it must be set
//	NATS_CREDENTIALS     the path of a file with the user's credentials
//	NATS_NAMESPACE       Config.Namespace
//	NATS_REPLICAS        Config.Replicas
//	NATS_MONITORING      Config.Monitoring, with commas between them
//	NATS_WAIVE           Config.Waive, with commas between them
//	NATS_CREATE_STREAMS  Config.CreateStreams
//	NATS_TIMEOUT         Config.Timeout in seconds
func open(env *environment.Environment) (persistence.Factory, error) {
	url, ok, err := env.Lookup("NATS_URL")
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, environment.Setting{Key: "NATS_URL"}.Wrong("is not set; give it the servers, such as nats://nats-1:4222,nats://nats-2:4222")
	}
	config := Config{Namespace: env.String("", "NATS_NAMESPACE"), Monitoring: list(env.String("", "NATS_MONITORING"))}
	if config.Replicas, err = env.Int(defaultReplicas, 1, 5, "NATS_REPLICAS"); err != nil {
		return nil, err
	}
	if config.CreateStreams, err = env.Bool(false, "NATS_CREATE_STREAMS"); err != nil {
		return nil, err
	}
	seconds, err := env.Int(int(defaultTimeout/time.Second), 1, 3600, "NATS_TIMEOUT")
	if err != nil {
		return nil, err
	}
	config.Timeout = time.Duration(seconds) * time.Second
	for _, name := range list(env.String("", "NATS_WAIVE")) {
		config.Waive = append(config.Waive, Waiver(name))
	}
	var options []nats.Option
	if file, ok, err := env.Lookup("NATS_CREDENTIALS"); err != nil {
		return nil, err
	} else if ok {
		options = append(options, nats.UserCredentials(file.Value))
	}
	store, err := Open(context.Background(), url.Value, config, options...)
	if err != nil {
		return nil, url.WrongSecret(err)
	}
	return store, nil
}

// list returns the words of a value with commas between them.
func list(value string) (words []string) {
	for word := range strings.SplitSeq(value, ",") {
		if word = strings.TrimSpace(word); word != "" {
			words = append(words, word)
		}
	}
	return words
}
