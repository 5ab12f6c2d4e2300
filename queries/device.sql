-- The devices of users. Registering and revoking run under the user's lock (UserLock).

-- name: DeviceGet :one
SELECT device_id, platform, push_target, display_name, created_at, last_seen_at, (revoked_at IS NOT NULL)::boolean AS revoked
FROM user_to_device WHERE user_id = @user_id AND device_id = @device_id;

-- name: DeviceCount :one
-- How many devices of a user are not revoked.
SELECT count(*) FROM user_to_device WHERE user_id = @user_id AND revoked_at IS NULL;

-- name: DevicePut :exec
-- Makes a device, or replaces what is known of it.
INSERT INTO user_to_device (user_id, device_id, platform, push_target, display_name, created_at)
VALUES (@user_id, @device_id, @platform, @push_target, @display_name, @created_at)
ON CONFLICT (user_id, device_id) DO UPDATE
    SET platform = excluded.platform, push_target = excluded.push_target, display_name = excluded.display_name;

-- name: DeviceList :many
-- A user's devices that are not revoked.
SELECT device_id, platform, push_target, display_name, created_at, last_seen_at
FROM user_to_device WHERE user_id = @user_id AND revoked_at IS NULL ORDER BY device_id;

-- name: DeviceRevoke :execrows
-- Ends a device, and forgets how to reach it. Since when stays as it is where it is revoked already. No rows: no such
-- device.
UPDATE user_to_device SET revoked_at = coalesce(revoked_at, @now::timestamptz), push_target = ''
WHERE user_id = @user_id AND device_id = @device_id;

-- name: DeviceSetSeenMany :exec
-- Notes when devices were online. Times do not go back; unknown and revoked devices are passed over. Locked in the order
-- of the ids first, so that two nodes never wait for each other crosswise. The commit log tells all nodes which streams
-- those are. The look-ups to lock are sorted beforehand, since an order of the table's own columns, or an equality of two
-- columns in the update, would let the planner scan the whole index whatever the statistics say: decision 20.
WITH told AS (
    INSERT INTO commit_log (stream_users, stream_devices, stream_numbers)
    VALUES (@user_ids::text[], @device_ids::text[], @numbers::bigint[])
), seen AS (
    SELECT d.user_id, d.device_id, u.at
    FROM (SELECT unnest(@user_ids::text[]) COLLATE "C" AS user_id, unnest(@device_ids::text[]) COLLATE "C" AS device_id,
            unnest(@ats::timestamptz[]) AS at
        ORDER BY 1, 2) u
    CROSS JOIN LATERAL (
        SELECT x.user_id, x.device_id FROM user_to_device x
        WHERE x.user_id = u.user_id AND x.device_id = u.device_id AND x.revoked_at IS NULL
            AND (x.last_seen_at IS NULL OR x.last_seen_at < u.at) FOR UPDATE) d
)
UPDATE user_to_device d SET last_seen_at = greatest(d.last_seen_at, s.at)
FROM seen s WHERE d.user_id = ANY (ARRAY[s.user_id]) AND d.device_id BETWEEN s.device_id AND s.device_id;

-- name: DeviceAccess :one
-- Whether a device may call. No row: no such user.
SELECT (u.deactivated_at IS NOT NULL)::boolean AS deactivated, (d.device_id IS NOT NULL)::boolean AS known,
    (d.revoked_at IS NOT NULL)::boolean AS revoked
FROM app_user u LEFT JOIN user_to_device d ON d.user_id = u.user_id AND d.device_id = @device_id
WHERE u.user_id = @user_id;

-- name: DeviceListRefused :many
-- Of many pairs of a user and a device, those that may not call, by the rule of DeviceAccess. OFFSET 0 makes it look-ups by
-- key: a join may scan the whole index, and this comes with every change of a user or device.
SELECT p.user_id::text AS user_id, p.device_id::text AS device_id, (u.deactivated_at IS NOT NULL)::boolean AS deactivated
FROM (SELECT unnest(@user_ids::text[]) AS user_id, unnest(@device_ids::text[]) AS device_id) p
LEFT JOIN LATERAL (SELECT x.deactivated_at FROM app_user x WHERE x.user_id = p.user_id OFFSET 0) u ON true
LEFT JOIN LATERAL (SELECT x.device_id, x.revoked_at FROM user_to_device x
    WHERE x.user_id = p.user_id AND x.device_id = p.device_id OFFSET 0) d ON true
WHERE u.deactivated_at IS NOT NULL OR d.device_id IS NULL OR d.revoked_at IS NOT NULL;
