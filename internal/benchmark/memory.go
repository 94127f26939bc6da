package main

import "context"

// measureMemory is the row memory: one worker at each kind of work. What the
// drivers allocate in C is not counted.
func (b *bench) measureMemory(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) (results []result, err error) {
		for _, events := range []int{1, 10} {
			r, err := b.saveCell(d, rowMemory, 1, events, ours, raw, original).measure(ctx, b.rounds)
			if err != nil {
				return nil, err
			}
			results = append(results, r)
		}
		c, err := b.applicationCell(d, rowMemory, 1)
		if err != nil {
			return nil, err
		}
		r, err := c.measure(ctx, b.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		r, err = b.withLibrary(ctx, d, b.histories[0], func(l *library) (result, error) {
			return l.cell(rowMemory, l.all()[:3]...).measure(ctx, b.rounds)
		})
		return append(results, r), err
	})
}
