package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/trickcounts"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func main() {
	if settings := os.Getenv(serverVariable); settings != "" {
		exit(serve(settings))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(demonstrate(ctx, os.Stdout))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const (
	dogs   = 24
	tricks = 6
)

// demonstrate runs the school on three servers, and kills one.
func demonstrate(ctx context.Context, out io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "trainingschool-cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	servers, err := startServers(folder)
	if err != nil {
		return err
	}
	defer stopServers(servers)
	config := natsstore.Config{Monitoring: monitoring(servers), Timeout: time.Minute}
	if err := createStreams(ctx, servers, config); err != nil {
		return err
	}
	p, err := newSchool(ctx, urls(servers), config, filepath.Join(folder, "readmodels.sqlite3"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	running, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- p.runner.Run(running) }()

	fmt.Fprintf(out, "%d dogs learn %d tricks each; their events are on %d servers\n", dogs, tricks, len(servers))
	killed := make(chan error, 1)
	go func() { killed <- killLeader(ctx, out, p.store, servers) }()
	if err := errors.Join(p.teach(ctx), <-killed); err != nil {
		return err
	}
	if err := p.runner.WaitFor(ctx, p.counts); err != nil {
		return err
	}
	if err := p.report(ctx, out); err != nil {
		return err
	}
	stop()
	return <-ran
}

// createStreams makes the streams of the school as soon as the servers know
// each other. A deployment does that once.
func createStreams(ctx context.Context, servers []*natsServer, config natsstore.Config) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		conn, err := nats.Connect(urls(servers))
		if err == nil {
			err = natsstore.Create(ctx, conn, config, "TrainingSchool")
			conn.Close()
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// program is the school, whose log is on NATS, and its read model, which is in
// a database together with its position.
type program struct {
	store  *natsstore.Store
	db     *gorm.DB
	school *school.TrainingSchool
	counts *trickcounts.TrickCounts
	runner *system.Runner
}

func newSchool(ctx context.Context, servers string, config natsstore.Config, database string) (*program, error) {
	p := &program{}
	var err error
	if p.store, err = natsstore.Open(ctx, servers, config); err != nil {
		return nil, err
	}
	if p.school, err = school.New(application.WithStore(p.store)); err != nil {
		return nil, err
	}
	if p.db, err = gormstore.OpenSQLite(sqlite.Open, database, &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	if p.counts, err = trickcounts.New(gormstore.New(p.db)); err != nil {
		return nil, err
	}
	if err := gormstore.AutoMigrate(p.db); err != nil {
		return nil, err
	}
	sys, err := system.New(system.Pipe(p.school, p.counts))
	if err != nil {
		return nil, err
	}
	p.runner, err = system.NewRunner(sys, system.Config{})
	return p, err
}

func (p *program) close() error {
	pool, err := p.db.DB()
	if err == nil {
		err = pool.Close()
	}
	return errors.Join(p.school.Close(), p.counts.Close(), p.store.Close(), err)
}

// teach has all dogs learn all tricks, several at the same time. What fails
// because an outcome is not known is tried again: a dog knows a trick once.
func (p *program) teach(ctx context.Context) error {
	failures := make([]error, dogs)
	var group sync.WaitGroup
	for i := range dogs {
		group.Go(func() { failures[i] = p.teachDog(ctx, fmt.Sprintf("Dog %d", i)) })
	}
	group.Wait()
	return errors.Join(failures...)
}

func (p *program) teachDog(ctx context.Context, name string) error {
	if err := p.school.Register(ctx, name); err != nil {
		return err
	}
	for i := range tricks {
		trick := fmt.Sprintf("trick %d", i)
		for {
			err := p.school.AddTrick(ctx, name, trick)
			if err == nil {
				break
			}
			if !errors.Is(err, persistence.ErrOutcomeUnknown) && !persistence.IsRetryable(err) {
				return err
			}
			known, err := p.school.Tricks(ctx, name)
			if err == nil && slices.Contains(known, trick) {
				break
			}
		}
	}
	return nil
}

// killLeader waits until a third of the events is stored, and kills the server
// that leads their stream.
func killLeader(ctx context.Context, out io.Writer, store *natsstore.Store, servers []*natsServer) error {
	conn, err := nats.Connect(urls(servers))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	events, err := store.ProcessRecorder("TrainingSchool")
	if err != nil {
		return err
	}
	for head := int64(0); head < dogs*tricks/3; {
		if head, err = events.MaxNotificationID(ctx); err != nil {
			return err
		}
	}
	stream, err := js.Stream(ctx, "es_ev_TrainingSchool")
	if err != nil {
		return err
	}
	leader := stream.CachedInfo().Cluster.Leader
	for _, n := range servers {
		if n.Name == leader {
			fmt.Fprintf(out, "the leader, %s, is killed\n", leader)
			return n.kill()
		}
	}
	return fmt.Errorf("the leader %q is none of the servers", leader)
}

// report compares the log with what was saved, and the read model with the log.
func (p *program) report(ctx context.Context, out io.Writer) error {
	events, err := p.store.ProcessRecorder("TrainingSchool")
	if err != nil {
		return err
	}
	inLog := 0
	for after := int64(0); ; {
		page, err := events.SelectNotifications(ctx, persistence.NotificationRange{After: after, Limit: persistence.MaxPage})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		inLog += len(page)
		after = page[len(page)-1].ID
	}
	fmt.Fprintf(out, "the log has %d of %d events\n", inLog, dogs*(1+tricks))
	counts, err := p.counts.Counts(ctx)
	if err != nil {
		return err
	}
	for _, count := range counts {
		fmt.Fprintf(out, "%s: %d of %d dogs\n", count.Trick, count.Dogs, dogs)
		if count.Dogs != dogs {
			err = errors.New("the read model has not counted each event once")
		}
	}
	if inLog != dogs*(1+tricks) || len(counts) != tricks {
		err = errors.New("events were lost")
	}
	return err
}
