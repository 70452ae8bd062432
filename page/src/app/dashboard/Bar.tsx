import type { Share, Spread } from "../../api";

/** A value on a scale from 0 to `most` with the range around it. All attributes of SVG: no styles are needed. */
export function Bar(props: { value: number | null; lower: number | null; upper: number | null; most: number }) {
  const { value, lower, upper, most } = props;
  if (value === null || most <= 0) return null;
  const at = (amount: number) => Math.min(Math.max((100 * amount) / most, 0), 100);
  return (
    <svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <rect class="bar-ground" x="0" y="2" width="100" height="8" />
      <rect class="bar-value" x="0" y="2" width={at(value)} height="8" />
      {lower !== null && upper !== null && (
        <rect class="bar-range" x={at(lower)} y="5" width={Math.max(at(upper) - at(lower), 0.5)} height="2" />
      )}
    </svg>
  );
}

export function ShareBar({ share }: { share: Share }) {
  return <Bar value={share.value} lower={share.lower} upper={share.upper} most={1} />;
}

export function SpreadBar({ spread, most }: { spread: Spread; most: number }) {
  return <Bar value={spread.median} lower={spread.lower} upper={spread.upper} most={most} />;
}
