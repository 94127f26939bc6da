package admin_test

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// TestFollowerPageHasPartitions shows the partitions of a divided follower, on
// its page and in its JSON twin, and none of a follower that is not divided.
func TestFollowerPageHasPartitions(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		w := newWiki(t, open(t))
		h := w.handler(t, all, false)
		if page := get(h, "/followers/Readers").Body.String(); strings.Contains(page, "Partitions") {
			t.Error("the page of a follower that is not divided has partitions")
		}
		since := time.Now().UTC()
		rows := []map[string]any{
			{"position": 5, "owner": "host:1:ab", "leased_until": since.Add(time.Minute).UnixMicro(),
				"error": "", "notification_id": 0, "since": nil},
			{"position": 2, "owner": "", "leased_until": 0, "error": hostile, "notification_id": 3, "since": since},
		}
		for number, row := range rows {
			maps.Copy(row, map[string]any{"application_name": "Readers", "upstream_application_name": "Wiki", "number": number,
				"partitions": 2, "partition_key": hostile, "fence": 0, "successor": ""})
		}
		divided := w.db.Table("notification_tracking").Where("application_name = 'Readers'").Update("notification_id", int64(1)<<62)
		if divided.Error != nil || divided.RowsAffected != 1 {
			t.Fatal(divided.RowsAffected, divided.Error)
		}
		if err := w.db.Table("follower_partitions").Create(rows).Error; err != nil {
			t.Fatal(err)
		}
		page := get(h, "/followers/Readers").Body.String()
		for _, want := range []string{"<h3>Partitions</h3>", "host:1:ab", "at 3 since", "2 of 5, 3 behind", "&lt;script&gt;alert(1)"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if strings.Contains(page, "<script>alert") {
			t.Error("markup of an error is not escaped")
		}
		var data struct {
			Leaders []struct {
				PartitionKey string `json:"partition_key"`
				Partitions   []struct {
					Number, Position, Lag int64
					Owner, Error          string
				}
			}
		}
		if err := json.Unmarshal(get(h, "/api/followers/Readers").Body.Bytes(), &data); err != nil {
			t.Fatal(err)
		}
		if len(data.Leaders) != 1 || data.Leaders[0].PartitionKey != hostile || len(data.Leaders[0].Partitions) != 2 {
			t.Fatalf("got %+v, want 1 Leaders, PartitionKey %v and 2 Partitions", data, hostile)
		}
		if p := data.Leaders[0].Partitions[1]; p.Number != 1 || p.Position != 2 || p.Lag != 3 || p.Owner != "" || p.Error != hostile {
			t.Errorf("got %+v, want Number 1, Position 2, Lag 3 and Error %v", p, hostile)
		}
	})
}
