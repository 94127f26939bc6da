package pglisten

import (
	"context"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session listens on one connection for as long as it lasts, and always returns
// an error.
func (l *listener) session(ctx context.Context, channel func(context.Context) (string, error), begun func(), heard func(string)) error {
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	conn, err := l.connect(ctx, alive, channel)
	if conn != nil {
		defer leave(conn, end)
	}
	if err != nil {
		return err
	}
	begun()
	for {
		n, err := l.next(ctx, conn)
		if n != nil {
			heard(n.Payload)
		}
		if err != nil {
			return err
		}
	}
}

// connect makes a connection and has it listen. The connection may be there
// although there is an error.
func (l *listener) connect(ctx, alive context.Context, channel func(context.Context) (string, error)) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.waits.connecting)
	defer cancel()
	name, err := channel(ctx)
	if err != nil {
		return nil, err
	}
	config := l.config.Copy()
	config.DialFunc = during(alive, config.DialFunc)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "LISTEN "+pgx.Identifier{name}.Sanitize())
	return conn, err
}

// next waits for a notification. If there is none for a while, it asks the
// server for a sign of life: a connection whose other end is gone looks the
// same as one that has nothing to say.
func (l *listener) next(ctx context.Context, conn *pgx.Conn) (*pgconn.Notification, error) {
	idle, cancel := context.WithTimeout(ctx, l.waits.idle)
	defer cancel()
	n, err := conn.WaitForNotification(idle)
	if err == nil || idle.Err() == nil || ctx.Err() != nil {
		return n, err
	}
	answer, cancel := context.WithTimeout(ctx, l.waits.answer)
	defer cancel()
	return n, conn.Ping(answer)
}

// during has connections end with alive. The driver deals with a connection
// that broke in the background: it dials the server to have it give up what the
// connection was doing, and waits for it to hang up. Nothing could end that
// otherwise.
func during(alive context.Context, dial pgconn.DialFunc) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(alive, cancel)()
		conn, err := dial(ctx, network, address)
		if err == nil {
			context.AfterFunc(alive, func() { _ = conn.Close() }) // it may be closed already
		}
		return conn, err
	}
}

// goodbye is how long it may take to tell the server that the connection ends.
const goodbye = time.Second

// leave ends a connection, and with it all that the driver does about it.
func leave(conn *pgx.Conn, end func()) {
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	_ = conn.Close(ctx) // the server notices the end without a word as well
	end()
	<-conn.PgConn().CleanupDone()
}
