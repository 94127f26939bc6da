package copylog

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
)

// NewCommand makes the command copy_log, which a service adds to its root
// command:
//
//	copy_log to-nats application...   copy logs from the database to NATS
//	copy_log to-gorm application...   copy logs from NATS to the database
//	copy_log compare application...   compare the logs of both
//
// open returns the two stores, which the command closes.
func NewCommand(open func(ctx context.Context) (*gormstore.Store, *natsstore.Store, error)) *cobra.Command {
	root := &cobra.Command{Use: "copy_log", Short: "Copy the log of an application between the database and NATS"}
	add := func(use, short string, run func(ctx context.Context, db *gormstore.Store, nats *natsstore.Store, application string, progress func(int64)) error) {
		root.AddCommand(&cobra.Command{Use: use + " application...", Short: short, Args: cobra.MinimumNArgs(1), SilenceUsage: true,
			RunE: func(cmd *cobra.Command, applications []string) error {
				db, nats, err := open(cmd.Context())
				if err != nil {
					return err
				}
				defer db.Close()
				defer nats.Close()
				for _, application := range applications {
					copied := int64(0)
					if err := run(cmd.Context(), db, nats, application, func(id int64) { copied = id }); err != nil {
						return err
					}
					if copied > 0 {
						fmt.Fprintf(cmd.OutOrStdout(), "%s: copied up to id %d\n", application, copied)
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s: the logs are the same\n", application)
				}
				return nil
			}})
	}
	add("to-nats", "Copy logs from the database to NATS", ToNATS)
	add("to-gorm", "Copy logs from NATS to the database", func(
		ctx context.Context, db *gormstore.Store, nats *natsstore.Store, application string, progress func(int64),
	) error {
		return ToGORM(ctx, nats, db, application, progress)
	})
	add("compare", "Compare the logs of both", func(
		ctx context.Context, db *gormstore.Store, nats *natsstore.Store, application string, _ func(int64),
	) error {
		return Compare(ctx, db, nats, application)
	})
	return root
}
